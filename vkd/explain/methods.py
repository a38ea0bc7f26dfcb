"""Methods and targets of heatmaps. No torch at import: the command line's help lists them."""

METHODS: dict[str, str] = {  # → the class in pytorch_grad_cam; "" is our own
    "gradcam": "GradCAM",  # arXiv 1610.02391; the authors' heatmaps too
    "gradcam++": "GradCAMPlusPlus",  # arXiv 1710.11063
    "layercam": "LayerCAM",  # IEEE TIP 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps"
    "eigencam": "",  # arXiv 2008.00299; looks at no target
    "hirescam": "HiResCAM",  # arXiv 2011.08891
}

TARGETS: dict[str, str] = {
    "logit": "each network's top-1 logit, as in the authors' script",
    "similarity": "the cosine to the mean embedding of the other tracklets of the same identity",
}
