import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[3] / "shared" / "data" / "tensorflow_datasets"


@pytest.fixture(scope="session")
def mnist() -> dict[str, np.ndarray]:
    """{"train": (60000, 28, 28, 1), "test": (10000, ...)} uint8, decoded in seconds."""
    folder = Path(os.environ.get("TFDS_DATA_DIR", DATA))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no prepared MNIST in {folder}; TFDS_DATA_DIR names another")
    import tensorflow_datasets as tfds

    def read(split: str) -> np.ndarray:
        source = tfds.data_source("mnist", split=split, data_dir=folder)
        records = source.__getitems__(list(range(len(source))))
        return np.stack([record["image"] for record in records])

    return {"train": read("train"), "test": read("test")}
