"""unheard.py: why nothing arrives on the topic of an input."""

import pytest

from openpi_flash_robot.senses.unheard import InputTopic, why_unheard

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            InputTopic("/scene/image_raw", IMAGE),
            "nobody publishes /scene/image_raw, and nobody any sensor_msgs/msg/Image",
        ),
        (
            InputTopic(
                "/scene/image_raw",
                IMAGE,
                same_type=("/a", "/b", "/scene_camera/image_raw", "/c", "/scene/color/image_raw"),
            ),
            "nobody publishes /scene/image_raw; sensor_msgs/msg/Image is on "
            "/scene/color/image_raw, /scene_camera/image_raw, /c",
        ),
        (
            InputTopic("/scene/image_raw", IMAGE, types=(COMPRESSED,)),
            "/scene/image_raw is sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image; "
            "set camera.scene.image_transport to compressed",
        ),
        (
            InputTopic("/scene/image", COMPRESSED, types=(IMAGE,)),
            "/scene/image is sensor_msgs/msg/Image, expected sensor_msgs/msg/CompressedImage; "
            "set camera.scene.image_transport to raw",
        ),
        (
            InputTopic("/points", IMAGE, types=("sensor_msgs/msg/PointCloud2", "a/msg/B")),
            "/points is sensor_msgs/msg/PointCloud2 and a/msg/B, expected sensor_msgs/msg/Image",
        ),
        (
            InputTopic(
                "/x",
                IMAGE,
                types=(IMAGE, COMPRESSED),
                publishers=("/d", "/e"),
                reliability="best effort",
            ),
            "/d, /e publishes /x (best effort), but nothing arrives: it sends nothing, or DDS "
            "loses what is large (config/dds/large_images.xml); see `ros2 topic hz /x`",
        ),
    ],
)
def test_the_reason_names_topic_types_nodes_and_what_to_do(found, why):
    assert why_unheard(found, "camera.scene.image_transport") == why


def test_joint_states_have_no_image_transport():
    found = InputTopic("/joint_states", "sensor_msgs/msg/JointState", types=(IMAGE,))
    assert why_unheard(found) == (
        "/joint_states is sensor_msgs/msg/Image, expected sensor_msgs/msg/JointState"
    )
