"""Self-distillation in the manner of DINOv2 (Oquab et al. 2023), small enough for one CPU core.

A student sees masked global crops and small local crops; a teacher, the running average of the
student, sees whole global crops. The student's class token must give the teacher's prototype
assignment of the *other* crop (DINO), its masked patches the teacher's assignment of the *same*
patch (iBOT). Sinkhorn-Knopp balances the teacher's assignments, which prevents collapse.

Besides, its masked patches give their pixels (ours). Distillation starts from an untrained teacher,
and on a budget of an hour its features alone hardly became better than that teacher's: the shipped
part starts from the masked autoencoder's encoder instead (``start_from``; ours).

No flips (they would swap left and right), no hue jitter, no greyscale (colour is content).
Shapes: B pictures, N patches, M masked patches, K prototypes, D width.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model, ViTMAEForPreTraining

from manyeyes.errors import CheckpointError
from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.export import check_start, save_part
from manyeyes.world.pretrain.loop import PartObjective, step_generator
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.sizes import HEADS, LAYERS, PATCH, WIDTH
from manyeyes.world.sample import IMAGE_SIZE

PROTOTYPES = 384
STUDENT_TEMPERATURE = 0.1
TEACHER_TEMPERATURE = 0.06
LOCAL_SIZE = 24
GLOBAL_AREA = (0.6, 1.0)
LOCAL_AREA = (0.15, 0.35)
MASK_SHARE = (0.2, 0.6)
"""Least and greatest share of masked patches in the student's global crops."""

PIXEL_WEIGHT = 5.0
"""Weight of the squared pixel error; its gradient is then about as large as the other losses'."""

_MOMENTUM_STEPS = 2000


class Head(nn.Module):
    """Projection to K prototype scores: MLP, unit length, cosine with unit-length prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., D]`` to cosine scores ``[..., K]`` in fp32."""
        code = functional.normalize(self.mlp(x).float(), dim=-1)
        return code @ functional.normalize(self.prototypes, dim=-1).T


class Side(nn.Module):
    """The encoder with its two heads; student and teacher are one each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Dinov2Model(dino_config())
        self.encoder.set_attn_implementation("eager")
        self.class_head, self.patch_head = Head(), Head()


class DinoObjective(PartObjective):
    """Student, teacher and the sum of class-token, masked-patch and pixel losses."""

    learning_rate = 5e-4

    def __init__(self, seed: int, images_per_step: int = 64) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        self.student = Side()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.pixel_head = nn.Linear(WIDTH, 3 * PATCH**2)

    def start_from(self, folder: Path) -> None:
        """Give student and teacher the encoder of the masked autoencoder in ``folder``.

        Raises:
            CheckpointError: there is none, or it has another form.
        """
        check_start(folder, "vit_mae")
        autoencoder = ViTMAEForPreTraining.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
        weights = {_renamed(name): p for name, p in autoencoder.vit.named_parameters()}
        with torch.no_grad():
            for name, weight in self.student.encoder.named_parameters():
                if name in weights and weights[name].shape != weight.shape:
                    raise CheckpointError(f"{folder}: {name} has another shape than here")
                weight.copy_(weights.get(name, weight))
        self.teacher.load_state_dict(self.student.state_dict())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return step ``step``'s loss; "entropy" is that of the mean assignment (1 = uniform)."""
        rng = step_generator(self.seed, step)
        pixels = picture_batch(
            scene_batch("train", step, self.images_per_step, self.seed), "imagenet"
        )
        pair = torch.cat([crop(pixels, GLOBAL_AREA, IMAGE_SIZE, rng) for _ in range(2)])
        local = torch.cat([crop(pixels, LOCAL_AREA, LOCAL_SIZE, rng) for _ in range(2)])
        masks = random_masks(len(pair), IMAGE_SIZE // PATCH, rng)
        with autocast(CPU):
            goal_class, goal_patch = self._targets(pair, masks)
            hidden = self.student.encoder(pixel_values=pair, bool_masked_pos=masks)
            tokens = hidden.last_hidden_state
            small = self.student.encoder(pixel_values=local).last_hidden_state[:, 0]
            scores = self.student.class_head(torch.cat([tokens[:, 0], small]))
            hidden_patches = tokens[:, 1:][masks]
            patch_scores = self.student.patch_head(hidden_patches)
            predicted = self.pixel_head(hidden_patches)
        views = scores.chunk(4)
        across = [
            cross_entropy(goal_class[g], views[v]) for g in (0, 1) for v in range(4) if v != g
        ]
        class_loss = torch.stack(across).mean()
        patch_loss = cross_entropy(goal_patch, patch_scores)
        pixel_loss = functional.mse_loss(predicted.float(), patches(pair)[masks])
        return class_loss + patch_loss + PIXEL_WEIGHT * pixel_loss, {
            "class": float(class_loss.detach()),
            "patch": float(patch_loss.detach()),
            "pixels": float(pixel_loss.detach()),
            "entropy": relative_entropy(goal_class.flatten(0, 1)),
        }

    @torch.no_grad()
    def _targets(self, pair: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's assignments: class ``[2, B, K]`` and masked patches ``[M, K]``."""
        tokens = self.teacher.encoder(pixel_values=pair).last_hidden_state
        whole = sinkhorn(self.teacher.class_head(tokens[:, 0]))
        patch = sinkhorn(self.teacher.patch_head(tokens[:, 1:][masks]))
        return whole.unflatten(0, (2, -1)), patch

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the teacher towards the student; the momentum rises from .98 to .998."""
        momentum = 1 - 0.02 * max(0.1, 1 - step / _MOMENTUM_STEPS)
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - momentum)

    def export(self, folder: Path) -> None:
        """Write the teacher's ``Dinov2Model``."""
        save_part(self.teacher.encoder, folder, "BitImageProcessor", "imagenet")


def _renamed(name: str) -> str:
    """Return what DINOv2's encoder calls a weight of the masked autoencoder's."""
    for before, after in (
        ("layers.", "encoder.layer."),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
    ):
        name = name.replace(before, after)
    return name


def cross_entropy(goal: Tensor, scores: Tensor) -> Tensor:
    """Return the mean cross-entropy between assignments and student scores, both ``[*, K]``."""
    return -(goal * (scores / STUDENT_TEMPERATURE).log_softmax(dim=-1)).sum(dim=-1).mean()


def sinkhorn(scores: Tensor, rounds: int = 3) -> Tensor:
    """Balance ``[R, K]`` scores so that every prototype gets an equal share; rows sum to one."""
    q = ((scores.float() - scores.max()) / TEACHER_TEMPERATURE).exp()
    for _ in range(rounds):
        q = q / q.sum(dim=0, keepdim=True).clamp_min(1e-12) / q.shape[1]
        q = q / q.sum(dim=1, keepdim=True).clamp_min(1e-12) / q.shape[0]
    return q * q.shape[0]


def relative_entropy(goal: Tensor) -> float:
    """Return the entropy of the mean assignment over its maximum, log K."""
    mean = goal.mean(dim=0)
    entropy = -(mean * mean.clamp_min(1e-12).log()).sum()
    return float(entropy / torch.tensor(float(goal.shape[1])).log())


def crop(pixels: Tensor, area: tuple[float, float], size: int, rng: torch.Generator) -> Tensor:
    """Cut a random square of this share of the area per picture, resized to ``size``, relit.

    Brightness and contrast vary by 15 per cent.
    """
    count = len(pixels)
    share = torch.empty(count).uniform_(*area, generator=rng)
    side = share.sqrt()
    centre = (torch.rand(count, 2, generator=rng) * 2 - 1) * (1 - side)[:, None]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = centre
    grid = functional.affine_grid(theta, [count, 3, size, size], align_corners=False)
    cut = functional.grid_sample(pixels, grid, align_corners=False, padding_mode="border")
    light = (torch.rand(2, count, 1, 1, 1, generator=rng) - 0.5) * 0.3
    return cut * (1 + light[0]) + 2 * light[1]


def patches(pixels: Tensor) -> Tensor:
    """Cut ``[B, 3, H, W]`` into patches ``[B, N, 3 * PATCH**2]``, row by row."""
    return functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)


def random_masks(count: int, grid: int, rng: torch.Generator) -> Tensor:
    """Return bool ``[count, grid * grid]``: smooth random regions, a random share of each."""
    coarse = torch.rand(count, 1, grid // 2, grid // 2, generator=rng)
    field = functional.interpolate(coarse, size=(grid, grid), mode="bilinear").flatten(1)
    field = field + 0.3 * torch.rand(field.shape, generator=rng)
    share = torch.empty(count).uniform_(*MASK_SHARE, generator=rng)
    rank = field.argsort(dim=1).argsort(dim=1)
    return rank < (share * field.shape[1]).round()[:, None]


def dino_config() -> Dinov2Config:
    """Return the shipped configuration."""
    return Dinov2Config(
        hidden_size=WIDTH,
        mlp_ratio=4,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        layerscale_value=1.0,
        initializer_range=0.05,
    )
