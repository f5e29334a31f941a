"""A world beside which a recorder of the black box stands, as the node has it."""

from bridge_world import JOINTS, MS, World

from openpi_flash_robot.black_box.messages import write_recording
from openpi_flash_robot.black_box.recorder import Recorder
from openpi_flash_robot.black_box.ring import Moment

NODE = "/openpi/client_node"


class RecordedWorld(World):
    """A world beside which a recorder stands, as the node has it."""

    def __init__(self, settings):
        super().__init__(settings)
        self.recorder = Recorder(NODE, settings, self.moment)
        self.recorded = 0

    @property
    def moment(self):
        return Moment(self.now, self.now)

    def collect(self, kind=object):
        found = super().collect(kind)
        for effect in self.effects[self.recorded :]:
            self.recorder.effect(self.moment, effect)
        self.recorded = len(self.effects)
        self.recorder.status(self.moment, self.status)
        self.recorder.joints(self.moment, self.now - MS, JOINTS, positions=self.measured)
        self.recorder.camera(self.moment, "scene", self.now - 5 * MS)
        return found

    def event(self, event):
        self.recorder.link_event(self.moment, event)
        return super().event(event)


def written(recorder, cause="request"):
    content = bytearray()
    for _ in write_recording(recorder.recording(cause), content.extend):
        pass
    return bytes(content)
