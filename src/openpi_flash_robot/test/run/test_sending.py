"""What the link's thread builds for a request of the bridge."""

import dataclasses

import numpy as np
import pytest
from bridge_world import World

from flash_transport.link_estimate import UNMEASURED, LinkEstimate
from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.link.transport import image_chooser
from openpi_flash_robot.run.sending import job_of
from openpi_flash_robot.senses.observation import ImageWork

SLOW, FAST = LinkEstimate(0.06, 10e6, 0.0), LinkEstimate(0.0002, 900e6, 0.0)
SCENE = "observation/scene_image"
WORK = ImageWork(
    decode=lambda _message, _at_least: np.zeros((224, 224, 3), np.uint8),
    resize=lambda image, _height, _width: image,
    encode=lambda _image, quality: {"__image__": "jpeg", "data": bytes(200 * quality)},
)


@pytest.fixture
def ask(settings):
    """`ask(estimate, supports, **observation)` builds a request of a robot with these settings."""
    choosers = {}

    def build(estimate, supports=("jpeg",), **changes):
        world = World(settings)
        world.bridge.activate(world.now)
        world.up(supports=list(supports))
        effect = world.pass_time(2_000, until=SendRequest)
        ours = dataclasses.replace(settings.observation, **changes)
        chooser = choosers.setdefault(str(changes), image_chooser(ours))
        job = job_of(effect, dataclasses.replace(settings, observation=ours), WORK, chooser)
        return job.build(estimate)

    return build


def test_images_are_jpeg_on_a_slow_link_and_raw_on_a_fast_one(ask):
    assert ask(UNMEASURED).jpeg_quality == 92
    fast = ask(FAST)
    assert (fast.jpeg_quality, fast.image_news) == (0, "")
    assert fast.content[SCENE].shape == (224, 224, 3)
    slow = ask(SLOW)
    assert slow.content[SCENE]["__image__"] == "jpeg"
    assert "images are sent as JPEG" in slow.image_news


def test_the_chooser_learns_how_large_the_images_become(ask):
    """37 kB at quality 92 take 29 ms at 10 Mb/s, 28 kB at 89 still 24 of the 20 + a quarter."""
    ask(UNMEASURED)
    assert ask(SLOW).jpeg_quality == 84


def test_settings_that_insist_are_obeyed_on_every_link(ask):
    for estimate in (None, UNMEASURED, SLOW, FAST):
        assert ask(estimate, image_budget=None, jpeg_quality=None).jpeg_quality == 0
        assert ask(estimate, image_budget=None, jpeg_quality=80).jpeg_quality == 80


def test_a_server_that_does_not_read_jpeg_gets_arrays(ask):
    for changes in ({}, {"image_budget": None, "jpeg_quality": 80}):
        built = ask(SLOW, supports=(), **changes)
        assert built.jpeg_quality == 0
        assert isinstance(built.content[SCENE], np.ndarray)
