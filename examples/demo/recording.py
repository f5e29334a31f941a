"""Writes ROS messages as they came off the wire into an MCAP file that Foxglove opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from mcap.writer import CompressionType, Writer

from demo.message_definitions import message_definition


class Recording:
    """An MCAP file under way; complete once it is closed.

    Args:
      path: the file to write.
      prefixes: where message definitions are found, as in AMENT_PREFIX_PATH.
    """

    def __init__(self, path: Path, prefixes: Sequence[Path]) -> None:
        self._prefixes = prefixes
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._sequences: dict[str, int] = {}
        self._file = path.open("wb")
        # rendered pictures shrink to a fifth, for a hundredth of a core
        self._writer = Writer(self._file, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="openpi-flash demo")

    def add_topic(self, topic: str, type_name: str) -> None:
        """Make room for a topic whose messages are of a type such as "sensor_msgs/msg/Image".

        Raises:
          DefinitionNotFoundError: the type's definition is not installed.
        """
        if type_name not in self._schemas:
            definition = message_definition(type_name, self._prefixes)
            self._schemas[type_name] = self._writer.register_schema(
                name=type_name, encoding="ros2msg", data=definition.encode()
            )
        self._channels[topic] = self._writer.register_channel(
            topic=topic, message_encoding="cdr", schema_id=self._schemas[type_name]
        )
        self._sequences[topic] = 0

    def write(self, topic: str, cdr: bytes, received: int) -> None:
        """Append a message: its CDR bytes as received, and when, in nanoseconds."""
        self._sequences[topic] += 1
        self._writer.add_message(
            channel_id=self._channels[topic],
            log_time=received,
            publish_time=received,
            data=cdr,
            sequence=self._sequences[topic],
        )

    def close(self) -> None:
        """Write index and summary."""
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
