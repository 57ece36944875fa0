"""`get_config` of a config file that has variants."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def with_variants(
    config: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> Callable[..., ConfigDict]:
    """get_config(variant="") -> the config, changed as the variant says.

    It raises ValueError for a variant that does not exist. What "tiny" of every config
    has in common is added by `genjax.configs.load`.
    """

    def get_config(variant: str = "") -> ConfigDict:
        if variant and variant not in variants:
            known = ", ".join(repr(name) for name in variants)
            raise ValueError(f"there is no variant {variant!r}; there are {known}")
        chosen = ConfigDict(config)
        chosen.update(variants.get(variant, {}))
        return chosen

    return get_config
