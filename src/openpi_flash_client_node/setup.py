"""Build rules of openpi_flash_client_node for colcon."""

from setuptools import find_packages, setup

PACKAGE = "openpi_flash_client_node"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="openpi-flash maintainers",
    maintainer_email="maintainers@openpi-flash.dev",
    description="Ties a robot's cameras and joints to a remote action policy, and plays its chunks",
    license="Apache-2.0",
    extras_require={"test": ["pytest"]},
    entry_points={
        "console_scripts": [
            "client_node = openpi_flash_client_node.__main__:main",
            "draw_black_box = openpi_flash_robot.black_box.draw:main",
        ],
    },
)
