# syntax=docker/dockerfile:1
# The robot's node, for ROS 2 Humble, Jazzy, Kilted or Lyrical.
#   docker build -f docker/robot.Dockerfile -t openpi-flash-robot --target robot .
#   docker build -f docker/robot.Dockerfile -t openpi-flash-robot --target robot --build-arg ROS_DISTRO=humble .
# The last stage adds the simulated arm of the demo. docs/docker.md says how to run both.

ARG ROS_DISTRO=jazzy

FROM rust:1.88-slim-bookworm AS rust

FROM ros:${ROS_DISTRO}-ros-base AS build
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    PATH=/usr/local/cargo/bin:$PATH
WORKDIR /workspace/src/openpi-flash
COPY src/flash_transport/package.xml src/flash_transport/
COPY src/openpi_flash/package.xml src/openpi_flash/
COPY src/openpi_flash_client_node/package.xml src/openpi_flash_client_node/
COPY src/openpi_flash_msgs/package.xml src/openpi_flash_msgs/
COPY src/openpi_flash_robot/package.xml src/openpi_flash_robot/
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install -y --ignore-src --rosdistro "$ROS_DISTRO" --from-paths src \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock ./
COPY src/flash_transport src/flash_transport
COPY src/openpi_flash src/openpi_flash
COPY src/openpi_flash_client_node src/openpi_flash_client_node
COPY src/openpi_flash_msgs src/openpi_flash_msgs
COPY src/openpi_flash_robot src/openpi_flash_robot
COPY config config
COPY launch launch
COPY examples/sim_robot examples/sim_robot
WORKDIR /workspace
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build --packages-up-to openpi_flash --merge-install --install-base /opt/openpi-flash \
        --event-handlers console_cohesion+ --cmake-args -DFLASH_TRANSPORT=cargo
# for transport:=websocket, newer than what Ubuntu packages; this one is for every Python of the distributions
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && python3 -m pip install --no-cache-dir --target /opt/websockets websockets==15.0.1

FROM ros:${ROS_DISTRO}-ros-base AS robot
LABEL org.opencontainers.image.title="openpi-flash robot node" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
COPY --from=build /workspace/src /tmp/src
RUN apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install -y --ignore-src --rosdistro "$ROS_DISTRO" --dependency-types exec --from-paths /tmp/src \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /tmp/src /root/.ros
COPY --from=build /opt/openpi-flash /opt/openpi-flash
COPY --from=build /opt/websockets /opt/websockets
COPY --chmod=0755 docker/robot_entrypoint /usr/local/bin/robot_entrypoint
# any user may run it: shared memory between nodes needs the one of the robot's drivers
ENV HOME=/tmp \
    PYTHONPATH=/opt/websockets \
    ROS_LOG_DIR=/tmp/ros_log
USER 1000:1000
STOPSIGNAL SIGINT
ENTRYPOINT ["tini", "-g", "--", "robot_entrypoint"]
CMD ["ros2", "launch", "openpi_flash", "robot.launch.py"]

FROM robot AS demo
USER 0
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages /opt/mujoco \
    && /opt/mujoco/bin/pip install --no-cache-dir mujoco==4.0.0
ENV MUJOCO_GL=egl
USER 1000:1000
CMD ["ros2", "launch", "openpi_flash", "demo.launch.py", "python:=/opt/mujoco/bin/python3"]
