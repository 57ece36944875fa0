"""Data sets by name, as models and metrics know them. `dataclasses.replace` varies."""

from genjax.typing import DataSpec


def of_images(
    name: str, shape: tuple[int, ...], num_classes: int = 0, **more
) -> DataSpec:
    """uint8, of 256 levels, 64 to train on and 16 held out unless told."""
    sizes = {"num_levels": 256, "num_train": 64, "num_eval": 16}
    return DataSpec(
        name=name,
        shape=shape,
        dtype="uint8",
        num_classes=num_classes,
        **(sizes | more),
    )


def of_points(name: str, num_classes: int = 0, **more) -> DataSpec:
    """Of the plane: 64 to train on and 16 held out unless told."""
    sizes = {"num_train": 64, "num_eval": 16}
    return DataSpec(
        name=name,
        shape=(2,),
        dtype="float32",
        num_levels=0,
        num_classes=num_classes,
        **(sizes | more),
    )


DIGITS = of_images("digits", (8, 8, 1), 10, num_levels=17)
MNIST = of_images("mnist", (28, 28, 1), 10, num_train=60_000, num_eval=10_000)
CIFAR = of_images("cifar10", (32, 32, 3), 10, num_train=50_000, num_eval=10_000)
