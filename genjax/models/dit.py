"""DiT: a transformer over patches (Peebles & Xie 2023, arXiv:2212.09748).

The time and the label, as one vector c, enter the blocks by adaLN-Zero (section 3.2):
layer norms have no weights of their own, but a scale and a shift that are linear in
silu(c), and so is the gate of each branch, which starts at zero. An untrained DiT is
zero.

The paper's sizes, all with patches of 2x2:

           width  depth  num_heads   parameters for 1000 classes, 4 -> 8 channels
    S        384     12          6    32.9 M
    B        768     12         12   130.3 M
    L       1024     24         16   457.8 M
    XL      1152     28         16   674.8 M

The released code also counts its fixed table of positions, tokens x width: for 16x16
tokens that makes 675.1 M of the last (and the paper's 33, 130, 458, 675 M).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Float

from genjax.choices import near_multiples
from genjax.nn.attention import AttentionName, attend
from genjax.nn.embeddings import (
    Label,
    embed_augmentation,
    embed_label,
    sinusoidal_embedding,
)
from genjax.nn.positions import grid, rotate_2d, sincos_2d
from genjax.typing import Array, Params, Tensor

MLP_RATIO = 4  # hidden features of a block's MLP, for each feature of the stream
TIME_FEATURES = 256  # sines and cosines of the time
STACK = "blocks"  # the name of all blocks as one layer, with scan

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()
small = nn.initializers.normal(0.02)


class DiTBlock(nn.Module):
    """Self-attention, then an MLP, both between adaptive norms and gates."""

    num_heads: int
    dropout: float
    dtype: jnp.dtype
    qk_norm: bool
    rotary: bool
    attention: AttentionName

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        c: Float[Array, "b d"],
        positions: Float[Array, "t 2"],
        train: bool,
    ) -> Float[Array, "b t d"]:
        """positions: row and column of each token, for rotary ones."""
        width = x.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=not train)
        modulation = _dense(6 * width, self.dtype, "modulation", init=zeros)(nn.silu(c))
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(
            modulation[:, None, :], 6, axis=-1
        )
        h = self._attention(modulated(x, shift1, scale1), positions)
        x = x + gate1 * drop(h)
        h = modulated(x, shift2, scale2)
        h = _dense(MLP_RATIO * width, self.dtype, "mlp0")(h)
        h = _dense(width, self.dtype, "mlp1")(drop(nn.gelu(h, approximate=True)))
        return x + gate2 * drop(h)

    def _attention(self, x: Array, positions: Array) -> Array:
        b, t, width = x.shape
        heads = (b, t, self.num_heads, width // self.num_heads)
        q, k, v = (
            _dense(width, self.dtype, name)(x).reshape(heads)
            for name in ("query", "key", "value")
        )
        if self.qk_norm:  # keeps scores small in long runs (arXiv:2302.05442)
            q = nn.RMSNorm(dtype=self.dtype, name="query_norm")(q)
            k = nn.RMSNorm(dtype=self.dtype, name="key_norm")(k)
        if self.rotary:
            q, k = rotate_2d(q, positions), rotate_2d(k, positions)
        h = attend(q, k, v, self.attention).reshape(x.shape)
        return _dense(width, self.dtype, "out")(h)


class DiT(nn.Module):
    """A function of an image and a time, with the shape of the image.

    out_channels: channels of the result.
    patch: side of the squares that become tokens; it must divide height and width.
    width: features of a token; num_heads must divide it, and 4 a head if rotary.
    depth: blocks.
    num_heads: of each block's self-attention.
    dropout: share of each branch's features that is set to 0 in training.
    num_classes: 0: unconditional. Else labels 0 ... num_classes - 1, and num_classes:
        the null label, "no class".
    dtype: of the arithmetic; parameters are float32.
    num_features, num_augment: as in `genjax.models.unet.UNet`.
    position: "sincos": fixed, added to the tokens (the paper's); "rotary": in the
        heads of each block; "none": the tokens are a set.
    qk_norm: queries and keys of each head are normed to RMS 1, times learned scales.
    remat: each block is computed again for the gradient instead of being kept: about a
        third more arithmetic, and much less memory. The parameters are the same.
    scan: the blocks are one loop, which compiles in the time of a single block. Their
        parameters then lie in one array, "blocks", for each of a block's: a run of
        one form does not go on in the other, but --init_from takes both.
    attention: "cudnn": the fused kernel of NVIDIA GPUs, in bfloat16; "xla": plain
        products; "auto": cuDNN's where it can be had.
    """

    out_channels: int
    patch: int = 2
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    dropout: float = 0.0
    num_classes: int = 0
    dtype: jnp.dtype = jnp.dtype("float32")
    num_features: int = 0
    num_augment: int = 0
    position: str = "sincos"
    qk_norm: bool = False
    remat: bool = False
    scan: bool = False
    attention: AttentionName = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        label: Label | None = None,
        *,
        augment: Float[Array, "b a"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w o"]:
        """float32 (B, H, W, out_channels) for t in [0, 1]; train: dropout is on.

        Needs the stream "dropout" when train. Raises ValueError if sizes do not divide,
        if labels and num_classes (num_features) do not go together, or for a position
        that does not exist.
        """
        if self.position not in ("sincos", "rotary", "none"):
            raise ValueError(
                f"position={self.position!r} does not exist; known: sincos, rotary, "
                "none"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"width={self.width} does not divide into {self.num_heads} heads"
            )
        height, width = x.shape[1:3]
        c = self._embed(t, label, augment)

        h = patchify(x.astype(self.dtype), self.patch)
        h = _dense(self.width, self.dtype, "in")(h)
        positions = grid(height // self.patch, width // self.patch)
        if self.position == "sincos":
            h = h + sincos_2d(positions, self.width).astype(self.dtype)[None]
        h = self._blocks(h, c, positions, train)

        shift_scale = _dense(2 * self.width, self.dtype, "modulation", init=zeros)(
            nn.silu(c)
        )
        h = modulated(h, *jnp.split(shift_scale[:, None, :], 2, axis=-1))
        out_features = self.patch**2 * self.out_channels
        h = _dense(out_features, self.dtype, "out", init=zeros)(h)
        return unpatchify(h, self.patch, height, width).astype(jnp.float32)

    def _blocks(self, h: Array, c: Array, positions: Array, train: bool) -> Array:
        """All blocks in turn."""
        kind = DiTBlock
        if self.remat:  # in a loop nothing is shared that would undo it
            kind = nn.remat(kind, static_argnums=4, prevent_cse=not self.scan)

        def block(name: str) -> nn.Module:
            return kind(
                self.num_heads,
                self.dropout,
                self.dtype,
                self.qk_norm,
                self.position == "rotary",
                self.attention,
                name=name,
            )

        if not self.scan:
            for i in range(self.depth):
                h = block(f"block{i}")(h, c, positions, train)
            return h

        def step(layer: nn.Module, h: Array, _: None) -> tuple[Array, None]:
            return layer(h, c, positions, train), None

        loop = nn.scan(
            step,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.depth,
        )
        return loop(block(STACK), h, None)[0]

    @property
    def tensor(self) -> Tensor:
        """The layers of a block as `mesh.tensor` splits them (arXiv:1909.08053).

        The first ones of a pair by what comes out, so that a device has whole heads
        and hidden features; the second ones by what goes in, whose products are summed
        over devices. Norms and the residual stream are whole.
        """
        blocks, lead = (STACK, (None,)) if self.scan else (r"block\d+", ())
        first = "(query|key|value|mlp0|modulation)"
        rules = {
            f"/{blocks}/{first}/kernel$": (None, "tensor"),
            f"/{blocks}/{first}/bias$": ("tensor",),
            f"/{blocks}/(out|mlp1)/kernel$": ("tensor", None),
        }
        specs = ((path, PartitionSpec(*lead, *axes)) for path, axes in rules.items())
        return Tensor(tuple(specs), parts=self.num_heads)

    def _embed(
        self, t: Array, label: Label | None, augment: Array | None
    ) -> Float[Array, "b d"]:
        """c: the embedding of time and of what else there is."""
        c = sinusoidal_embedding(t, TIME_FEATURES).astype(self.dtype)
        c = _dense(self.width, self.dtype, "time0", init=small)(c)
        c = _dense(self.width, self.dtype, "time1", init=small)(nn.silu(c))
        labelled = embed_label(
            label,
            num_classes=self.num_classes,
            num_features=self.num_features,
            width=self.width,
            dtype=self.dtype,
            class_init=small,
        )
        augmented = embed_augmentation(
            augment,
            num_augment=self.num_augment,
            batch=len(t),
            width=self.width,
            dtype=self.dtype,
        )
        for more in (labelled, augmented):
            c = c if more is None else c + more
        return c


def stacked(params: Mapping[str, Any]) -> Params:
    """The parameters of a DiT with `scan`, of those of the same one without."""
    rest, blocks = dict(params), []
    while f"block{len(blocks)}" in rest:
        blocks.append(rest.pop(f"block{len(blocks)}"))
    return rest | {STACK: jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def unstacked(params: Mapping[str, Any]) -> Params:
    """The parameters of a DiT without `scan`, of those of the same one with it."""
    rest = dict(params)
    blocks = rest.pop(STACK)
    for i in range(len(jax.tree.leaves(blocks)[0])):
        rest[f"block{i}"] = jax.tree.map(lambda leaf, i=i: leaf[i], blocks)
    return rest


def modulated(
    x: Float[Array, "b t d"], shift: Float[Array, "b 1 d"], scale: Float[Array, "b 1 d"]
) -> Float[Array, "b t d"]:
    """Layer norm without weights, then (1 + scale) times it plus shift."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    variance = wide.var(axis=-1, keepdims=True)
    normed = (wide - mean) * jax.lax.rsqrt(variance + 1e-6)
    return normed.astype(x.dtype) * (1.0 + scale) + shift


def patchify(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b t f"]:
    """Squares of patch x patch pixels, row by row, each as one vector.

    Raises ValueError if the image does not divide into them.
    """
    b, h, w, c = x.shape
    if h % patch or w % patch:
        raise ValueError(
            f"{h}x{w} pixels do not divide into patches of {patch}: set "
            f"data.image_size to {near_multiples(h, patch)}"
        )
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def unpatchify(
    tokens: Float[Array, "b t f"], patch: int, height: int, width: int
) -> Float[Array, "b h w c"]:
    """The image whose `patchify` is tokens."""
    b = len(tokens)
    x = tokens.reshape(b, height // patch, width // patch, patch, patch, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height, width, -1)


def _dense(
    features: int,
    dtype: jnp.dtype,
    name: str,
    *,
    init: jax.nn.initializers.Initializer = xavier,
) -> nn.Dense:
    return nn.Dense(features, kernel_init=init, dtype=dtype, name=name)
