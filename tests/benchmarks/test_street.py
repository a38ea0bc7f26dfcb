"""Pictures of the street a second on one core, JPEG and mask included."""

import io

import numpy as np
import pytest
from PIL import Image

from vkd.synthetic.appearance import lookalike_group
from vkd.synthetic.camera import camera_ring
from vkd.synthetic.motion import sample_walk
from vkd.synthetic.render import render


@pytest.mark.parametrize("size", [(128, 64), (256, 128)], ids=["128x64", "256x128"])
def test_render_and_write_48_pictures(benchmark, size):
    rng = np.random.default_rng(0)
    jobs = [
        (person, camera, state)
        for person in lookalike_group(rng, 4)
        for camera in camera_ring(6, 0)
        for state in sample_walk(rng, camera, 2)
    ]

    def draw() -> int:
        written = 0
        for person, camera, state in jobs:
            picture, mask = render(person, camera, state, size)
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "jpeg", quality=camera.quality)
            Image.fromarray(mask.astype(np.uint8) * 255).save(file, "png")
            written += file.tell() > 0
        return written

    assert benchmark.pedantic(draw, rounds=3, warmup_rounds=1) == 48
