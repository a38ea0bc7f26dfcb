"""Pictures of the street a second on one core, JPEG and mask included."""

import io

import numpy as np
import pytest
from PIL import Image

from vkd.synthetic.appearance import look_alikes
from vkd.synthetic.camera import camera_ring
from vkd.synthetic.generate import render
from vkd.synthetic.motion import walk


@pytest.mark.parametrize("size", [(128, 64), (256, 128)], ids=["128x64", "256x128"])
def test_render_and_write_48_pictures(benchmark, size):
    rng = np.random.default_rng(0)
    jobs = [
        (look, camera, moment)
        for look in look_alikes(rng, 4)
        for camera in camera_ring(6, 0)
        for moment in walk(rng, camera, 2)
    ]

    def draw() -> int:
        written = 0
        for look, camera, moment in jobs:
            picture, mask = render(look, camera, moment, size)
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "jpeg", quality=camera.quality)
            Image.fromarray(mask.astype(np.uint8) * 255).save(file, "png")
            written += file.tell() > 0
        return written

    assert benchmark.pedantic(draw, rounds=3, warmup_rounds=1) == 48
