"""Build rules of openpi_flash_robot, for colcon and for pip."""

from setuptools import find_packages, setup

PACKAGE = "openpi_flash_robot"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["flash_transport", "numpy>=1.21", "pyyaml>=5.4"],
    zip_safe=True,
    maintainer="openpi-flash maintainers",
    maintainer_email="maintainers@openpi-flash.dev",
    description="The robot side of a remote action policy, without ROS",
    license="Apache-2.0",
    extras_require={"lerobot": ["lerobot>=0.4"], "test": ["pytest"]},
)
