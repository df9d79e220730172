"""Backbones of timm, torchvision and transformers, made as narrow as the config can make ours.

A reference is the library's own module with weights drawn from their names. The comparison (backbones.py) gives these
weights to ours by the way that a file takes, and both see the same images.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdp_jax.models.backbones import convnext, swin, vit
from mdp_jax.models.stages import STAGES
from mdp_jax.parity.backbones import fixed, value_of

Features = dict[int, Tensor]  # stride -> [B,C,h,w]


@dataclass(frozen=True)
class Reference:
    """A library's backbone.

    Attributes:
      library: the name of its package.
      output_stride: of our network.
      size: height and width of the images.
      make: width -> module.
      features: (module, images [B,3,H,W]) -> features at all strides of ours.
      positions: key of the learned positions, and patches of a side in the published files; empty without them.
    """

    library: str
    output_stride: int
    size: tuple[int, int]
    make: Callable[[float], nn.Module]
    features: Callable[[nn.Module, Tensor], Features]
    positions: tuple[str, int] | None = None


def drawn(module: nn.Module, reference: Reference) -> dict[str, np.ndarray]:
    """The weights of a reference as a published file would hold them, float64.

    Args:
      module: of the reference.
      reference: whose positions are those of the published grid.
    """
    shapes = {key: tuple(value.shape) for key, value in module.named_parameters()}
    if reference.positions:
        key, grid = reference.positions
        tokens = shapes[key][1] - np.prod([side // _patch(reference) for side in reference.size])
        shapes[key] = (1, int(tokens) + grid * grid, shapes[key][2])
    return {key: value_of(key, shape) for key, shape in shapes.items()}


def _patch(reference: Reference) -> int:
    return reference.output_stride if reference.output_stride in (14, 16) else reference.output_stride // 2


@dataclass(frozen=True)
class Computed:
    """What a reference computed.

    Attributes:
      features: {stride: [B,h,w,C]}.
      outputs: {module: its output}, channels last.
      gradients: {key: gradient} of the sum of all features times their own fixed values.
    """

    features: dict[int, np.ndarray]
    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


def compute(
    reference: Reference, module: nn.Module, state: dict[str, np.ndarray], images: np.ndarray, dtype: str
) -> Computed:
    """Runs a reference forwards and backwards.

    Args:
      reference: the reference.
      module: made by it.
      state: of `drawn`.
      images: [B,H,W,3].
      dtype: "float32" or "float64".
    """
    kind = getattr(torch, dtype)
    module = module.to(kind)
    module.eval()  # whose result is None with some of MMSegmentation's
    leaves = {key: torch.tensor(array, dtype=kind, requires_grad=True) for key, array in state.items()}
    outputs: dict[str, np.ndarray] = {}
    hooks = [
        inner.register_forward_hook(functools.partial(_keep, outputs, name)) for name, inner in module.named_modules()
    ]
    weights = dict(leaves)
    if reference.positions:
        weights[reference.positions[0]] = _resized(leaves[reference.positions[0]], reference)
    called = _Called(module, reference.features)
    features = torch.func.functional_call(
        called, {f"module.{key}": value for key, value in weights.items()}, (torch.tensor(images, dtype=kind),)
    )
    for hook in hooks:
        hook.remove()
    last = {stride: value.permute(0, 2, 3, 1) for stride, value in features.items()}
    total = sum((value * torch.tensor(fixed(tuple(value.shape)), dtype=kind)).sum() for value in last.values())
    names = list(leaves)
    gradients = torch.autograd.grad(total, [leaves[name] for name in names], allow_unused=True)
    return Computed(
        {stride: value.detach().numpy() for stride, value in last.items()},
        outputs,
        {name: value.numpy() for name, value in zip(names, gradients, strict=True) if value is not None},
    )


class _Called(nn.Module):
    """Gives functional_call a module whose `forward` gives features."""

    def __init__(self, module: nn.Module, features: Callable[[nn.Module, Tensor], Features]) -> None:
        super().__init__()
        self.module, self.features = module, features

    def forward(self, images: Tensor) -> Features:
        return self.features(self.module, images)


def _keep(outputs: dict[str, np.ndarray], name: str, module: nn.Module, given: object, output: object) -> None:
    if isinstance(output, tuple):
        output = output[0]
    if isinstance(output, Tensor):
        outputs[name] = output.detach().numpy()


def _resized(positions: Tensor, reference: Reference) -> Tensor:
    """Interpolates learned positions as timm does, which leaves double precision for it."""
    assert reference.positions is not None
    grid = reference.positions[1]
    tokens = positions.shape[1] - grid * grid
    square = positions[:, tokens:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    size = [side // _patch(reference) for side in reference.size]
    square = F.interpolate(square, size, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :tokens], square.flatten(2).transpose(1, 2)], dim=1)


def _timm_convnext(name: str, output_stride: int, width: float) -> nn.Module:
    import timm

    sizes = convnext.sizes_of(name, width)
    dims = [sizes.channels * 2**i for i in range(4)]
    return timm.create_model(name, depths=sizes.blocks, dims=dims, output_stride=output_stride, num_classes=0)


def _timm_stages(output_stride: int, module: nn.Module, x: Tensor) -> Features:
    features: Features = {}
    x, at = module.stem(x), 4
    for i, stage in enumerate(module.stages):
        x = stage(x)
        at = min(output_stride, 4 * 2**i)
        features[at] = x
    return features


def _torchvision_convnext(name: str, width: float) -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    sizes = convnext.sizes_of(name, width)
    dims = [sizes.channels * 2**i for i in range(4)]
    settings = [
        CNBlockConfig(dim, after, blocks)
        for dim, after, blocks in zip(dims, [*dims[1:], None], sizes.blocks, strict=True)
    ]
    return ConvNeXt(settings)


def _torchvision_stages(module: nn.Module, x: Tensor) -> Features:
    features: Features = {}
    for i, layer in enumerate(module.features):
        x = layer(x)
        if i % 2:
            features[4 * 2 ** (i // 2)] = x
    return features


def _transformers_convnext(name: str, width: float) -> nn.Module:
    from transformers import ConvNextConfig, ConvNextModel

    sizes = convnext.sizes_of(name, width)
    return ConvNextModel(
        ConvNextConfig(hidden_sizes=[sizes.channels * 2**i for i in range(4)], depths=list(sizes.blocks))
    )


def _transformers_stages(module: nn.Module, x: Tensor) -> Features:
    hidden = module(x, output_hidden_states=True).hidden_states
    return {4 * 2**i: x for i, x in enumerate(hidden[-4:])}


def _timm_swin(name: str, size: tuple[int, int], width: float) -> nn.Module:
    import timm

    sizes, channels = swin.SIZES[name], swin.feature_channels(name, width, 32)
    heads = [sizes.heads * 2**i for i in range(4)]
    published = f"{name}_patch{swin.PATCH}_window{swin.WINDOW}_224"
    more = {"img_size": size, "embed_dim": channels[4], "depths": sizes.blocks, "num_heads": heads}
    return _with_norms(timm.create_model(published, **more, num_classes=0), channels)


def _torchvision_swin(name: str, width: float) -> nn.Module:
    from torchvision.models import SwinTransformer

    sizes, channels = swin.SIZES[name], swin.feature_channels(name, width, 32)
    heads = [sizes.heads * 2**i for i in range(4)]
    sides = ([swin.PATCH] * 2, [swin.WINDOW] * 2)
    return _with_norms(SwinTransformer(sides[0], channels[4], list(sizes.blocks), heads, sides[1]), channels)


def _with_norms(module: nn.Module, channels: dict[int, int]) -> nn.Module:
    """A network for whole images, which normalises its last features alone, with MMSegmentation's for the others."""
    for i, stride in enumerate(swin.STRIDES[:-1]):
        module.add_module(f"norm{i}", nn.LayerNorm(channels[stride], swin.EPS))
    return module


def _swin_stages(stages: str, embed: str, module: nn.Module, x: Tensor) -> Features:
    """Of a library's module, whose children `stages` are stages, or patch mergings in front of them."""
    features: Features = {}
    if embed:
        x = module.get_submodule(embed)(x)
    norms = [module.norm0, module.norm1, module.norm2, module.norm]
    layers = list(module.get_submodule(stages))
    for i, layer in enumerate(layers):
        x = layer(x)
        if embed or i % 2:
            at = i if embed else i // 2
            features[swin.STRIDES[at]] = norms[at](x).permute(0, 3, 1, 2)
    return features


def _timm_vit(name: str, library_name: str, size: tuple[int, int], width: float) -> nn.Module:
    import timm

    sizes, form = vit.KINDS[name]
    channels = sizes.heads * vit.head_channels(form, width)
    module = timm.create_model(
        library_name, img_size=size, embed_dim=channels, depth=sizes.blocks, num_heads=sizes.heads, num_classes=0
    )
    if not form.grid:
        # timm makes periods and positions in float32; its formulas stay, in float64.
        rope = module.rope
        rope.periods = rope.temperature ** (2 * torch.arange(rope.dim // 4, dtype=torch.float64) / (rope.dim // 2))
        rope.get_embed = functools.partial(_positions_of_patches, rope)
    return module


def _positions_of_patches(rope: nn.Module, shape: tuple[int, int], **_: object) -> Tensor:
    axes = [2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n - 1 for n in shape]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat(rope._get_pos_embed_from_coords(coordinates), dim=-1)


def _timm_blocks(name: str, output_stride: int, module: nn.Module, x: Tensor) -> Features:
    sizes, form = vit.KINDS[name]
    share = sizes.blocks // vit.LEVELS
    found = module.forward_intermediates(
        x, indices=[share * (i + 1) - 1 for i in range(vit.LEVELS)], norm=True, intermediates_only=True
    )
    if output_stride == form.patch:
        return {form.patch: found[-1]}
    factors = [2.0 ** (2 - i) for i in range(vit.LEVELS)]
    return {
        form.patch * 2**i // 4: F.interpolate(x, [round(side * factor) for side in x.shape[2:]], mode="bilinear")
        for i, (x, factor) in enumerate(zip(found, factors, strict=True))
    }


def _torchvision_vit(name: str, side: int, width: float) -> nn.Module:
    from torchvision.models import VisionTransformer

    sizes, form = vit.KINDS[name]
    channels = sizes.heads * vit.head_channels(form, width)
    return VisionTransformer(side, form.patch, sizes.blocks, sizes.heads, channels, 4 * channels)


def _torchvision_blocks(module: nn.Module, x: Tensor) -> Features:
    side, patch = x.shape[2] // module.patch_size, module.patch_size
    x = module._process_input(x)
    x = module.encoder(torch.cat([module.class_token.expand(len(x), -1, -1), x], dim=1))
    return {patch: _map(x[:, 1:], side)}


def _map(x: Tensor, rows: int) -> Tensor:
    """[B,N,C] to [B,C,rows,N / rows]."""
    return x.transpose(1, 2).reshape(len(x), x.shape[2], rows, -1)


def _transformers_vit(name: str, kind: str, side: int, width: float) -> nn.Module:
    import transformers

    sizes, form = vit.KINDS[name]
    channels = sizes.heads * vit.head_channels(form, width)
    more = {"num_register_tokens": form.registers} if form.registers else {}
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=channels,
        intermediate_size=4 * channels,
        num_hidden_layers=sizes.blocks,
        num_attention_heads=sizes.heads,
        image_size=side,
        patch_size=form.patch,
        layer_norm_eps=form.eps,
        attn_implementation="eager",
        **more,
    )
    return getattr(transformers, f"{kind}Model")(config)


def _transformers_blocks(name: str, module: nn.Module, x: Tensor) -> Features:
    form = vit.KINDS[name][1]
    tokens = module(x).last_hidden_state[:, 1 + form.registers :]
    return {form.patch: _map(tokens, x.shape[2] // form.patch)}


# Names of timm that differ from ours; of DINOv3 it has a form with biases of queries and values.
_OF_TIMM = {
    **{f"vit_{size}_patch16": f"vit_{size}_patch16_224" for size in vit.SIZES},
    **{f"vit_{size}_patch16_dinov3": f"vit_{size}_patch16_dinov3_qkvb" for size in vit.SIZES},
}
_OF_TRANSFORMERS = {"patch14_dinov2": "Dinov2", "patch14_reg4_dinov2": "Dinov2WithRegisters"}


def _of_convnext(name: str) -> list[Reference]:
    size, part = (64, 96), functools.partial
    return [
        *(
            Reference("timm", stride, size, part(_timm_convnext, name, stride), part(_timm_stages, stride))
            for stride in STAGES
        ),
        Reference("torchvision", 32, size, part(_torchvision_convnext, name), _torchvision_stages),
        Reference("transformers", 32, size, part(_transformers_convnext, name), _transformers_stages),
    ]


def _of_swin(name: str) -> list[Reference]:
    part = functools.partial
    # timm pads after it has shifted, which is another network unless windows fill the map. Here they do, and one of
    # them has all the rows at stride 32. For torchvision no map is filled.
    size = (224, 448)
    return [
        Reference("timm", 32, size, part(_timm_swin, name, size), part(_swin_stages, "layers", "patch_embed")),
        Reference("torchvision", 32, (228, 232), part(_torchvision_swin, name), part(_swin_stages, "features", "")),
    ]


def _of_vit(name: str) -> list[Reference]:
    part, form = functools.partial, vit.KINDS[name][1]
    size, side = (4 * form.patch, 6 * form.patch), 5 * form.patch
    positions = ("pos_embed", form.grid) if form.grid else None
    found = [
        Reference(
            "timm",
            stride,
            size,
            part(_timm_vit, name, _OF_TIMM.get(name, name), size),
            part(_timm_blocks, name, stride),
            positions,
        )
        for stride in vit.strides(form)
    ]
    if not form.layer_scale:
        make = part(_torchvision_vit, name, side)
        key = ("encoder.pos_embedding", form.grid)
        found.append(Reference("torchvision", form.patch, (side, side), make, _torchvision_blocks, key))
    kind = _OF_TRANSFORMERS.get(name.split("_", 2)[2])
    if kind:
        make = part(_transformers_vit, name, kind, side)
        key = ("embeddings.position_embeddings", form.grid)
        blocks = part(_transformers_blocks, name)
        found.append(Reference("transformers", form.patch, (side, side), make, blocks, key))
    return found


# Backbone -> what it is compared with.
REFERENCES: dict[str, Callable[[], list[Reference]]] = {
    **{name: functools.partial(_of_convnext, name) for name in convnext.SIZES},
    **{name: functools.partial(_of_swin, name) for name in swin.SIZES},
    **{name: functools.partial(_of_vit, name) for name in vit.KINDS},
}
