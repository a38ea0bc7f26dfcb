"""The Gradio app. A tab's `tab.py` is layout and wiring, its `actions.py` calls the library."""
