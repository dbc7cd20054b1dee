"""The papers' headline claims as comparisons that can fail, one line each.

A claim names two arms, a benchmark (or one kind of its questions) and the direction: the challenger
scores higher. Where a second encoder is said to help, a ``control`` of the same width reads two
levels of one encoder, so that width alone cannot explain the gain. The world was not made for these
claims, and nothing is tuned towards them. What a claim needs is a recipe of this package; claims of
methods without one are not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyeyes.errors import UsageError, nearest
from manyeyes.study.comparison.verdicts import Pairing

COMM = "COMM (Jiang et al. 2023, arXiv 2310.08825)"
XFORMER = "X-Former (Swetha et al. 2024, arXiv 2407.13851)"
LION = "LION (Chen et al. 2023, arXiv 2311.11860)"
MR_MLLM = "MR-MLLM (Wang et al. 2024, arXiv 2406.15768)"

CLAIM_ARMS: Mapping[str, str] = {
    "clip/world": "clip/world",
    "dinov2/world": "dinov2/world",
    "comm/world": "comm/world",
    "qformer/world": "qformer/world",
    "xformer/world": "xformer/world",
    "xformer/world-no-reconstruction": "xformer/world-no-reconstruction",
    "xformer/world-early": "xformer/world-early",
    "xformer/world-concat": "xformer/world-concat",
    "xformer/world-clip-layer": "xformer/world-clip-layer",
    "lion/world": "lion/world",
    "lion/world-no-aggregator": "lion/world-no-aggregator",
    "lion/world-joint": "lion/world-joint",
    "lion/world-hard-prompt": "lion/world-hard-prompt",
    "mr-mllm/world": "mr-mllm/world",
    "mr-mllm/world-text-only": "mr-mllm/world-text-only",
    "mr-mllm/world-no-perception": "mr-mllm/world-no-perception",
    "clip-twice": "clip-twice=clip/world-twice",
    "clip-levels": "clip-levels=clip/world-levels",
    "dinov2-linear": "dinov2-linear=dinov2/world-linear",
}
"""Name of an arm -> the word that `contestants.parse_arm` reads."""


@dataclass(frozen=True)
class Claim:
    """``challenger`` scores higher than ``reference`` on ``benchmark`` (in ``group`` of it)."""

    name: str
    statement: str
    source: str
    challenger: str
    reference: str
    benchmark: str
    group: tuple[str, str] | None = None
    control: str | None = None

    @property
    def question(self) -> Pairing:
        """The comparison that decides the claim."""
        return Pairing(self.challenger, self.reference, self.benchmark, self.group)

    @property
    def control_question(self) -> Pairing | None:
        """The challenger against the control of the same width, where there is one."""
        if self.control is None:
            return None
        return Pairing(self.challenger, self.control, self.benchmark, self.group)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that the claim needs."""
        return tuple(a for a in (self.challenger, self.reference, self.control) if a is not None)


@dataclass(frozen=True)
class RefinementClaim:
    """The objects that ``arm`` refined have a higher AP over corner cases than its detector's.

    ``beside``: a study has two arms at least, and this is the other one.
    """

    name: str
    statement: str
    source: str
    arm: str
    beside: str

    @property
    def question(self) -> Pairing:
        """How the comparison is called in the results."""
        return Pairing(f"{self.arm}, refined", f"{self.arm}, its detector", REFINED)

    @property
    def control(self) -> None:
        """There is none."""
        return None

    control_question = control

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that the claim needs."""
        return self.arm, self.beside


AnyClaim = Claim | RefinementClaim
REFINED = "AP of corner cases"

COUNT = ("question_type", "count")
RELATION = ("question_type", "relation")

CLAIMS: tuple[AnyClaim, ...] = (
    Claim(
        "levels-over-last",
        "merging all levels of CLIP beats its last-but-one level on grounding",
        f"{COMM}, analysis of levels",
        challenger="clip-levels",
        reference="clip/world",
        benchmark="rec",
    ),
    Claim(
        "dino-mlp-over-linear",
        "DINOv2 needs an MLP: it beats a linear layer on grounding",
        f"{COMM}, ablation of the alignment module",
        challenger="dinov2/world",
        reference="dinov2-linear",
        benchmark="rec",
    ),
    Claim(
        "dino-over-clip-boxes",
        "DINOv2 alone beats CLIP alone on grounding",
        f"{COMM}, analysis of levels",
        challenger="dinov2/world",
        reference="clip/world",
        benchmark="rec",
    ),
    Claim(
        "comm-over-clip-boxes",
        "COMM beats CLIP alone on grounding",
        f"{COMM}, referring expressions",
        challenger="comm/world",
        reference="clip/world",
        benchmark="rec",
        control="clip-twice",
    ),
    Claim(
        "comm-over-clip-pope",
        "COMM beats CLIP alone on object presence",
        f"{COMM}, POPE",
        challenger="comm/world",
        reference="clip/world",
        benchmark="pope",
        control="clip-twice",
    ),
    Claim(
        "comm-over-dino-pope",
        "COMM beats DINOv2 alone on object presence",
        f"{COMM}, POPE",
        challenger="comm/world",
        reference="dinov2/world",
        benchmark="pope",
        control="clip-twice",
    ),
    Claim(
        "xformer-over-qformer-counting",
        "X-Former beats the Q-Former on counting",
        f"{XFORMER}, object counting",
        challenger="xformer/world",
        reference="qformer/world",
        benchmark="vqa",
        group=COUNT,
        control="xformer/world-clip-layer",
    ),
    Claim(
        "xformer-over-qformer",
        "X-Former beats the Q-Former on questions",
        f"{XFORMER}, zero-shot results",
        challenger="xformer/world",
        reference="qformer/world",
        benchmark="vqa",
        control="xformer/world-clip-layer",
    ),
    Claim(
        "reconstruction-helps",
        "without the reconstruction objective X-Former is worse on questions",
        f"{XFORMER}, ablations",
        challenger="xformer/world",
        reference="xformer/world-no-reconstruction",
        benchmark="vqa",
    ),
    Claim(
        "late-over-early",
        "dual cross-attention after the Q-Former beats it inside the layers on questions",
        f"{XFORMER}, ablations",
        challenger="xformer/world",
        reference="xformer/world-early",
        benchmark="vqa",
    ),
    Claim(
        "dual-over-concatenation",
        "dual cross-attention beats concatenated tokens on questions",
        f"{XFORMER}, ablations",
        challenger="xformer/world",
        reference="xformer/world-concat",
        benchmark="vqa",
    ),
    Claim(
        "aggregator-helps-boxes",
        "the vision aggregator's tokens help grounding",
        f"{LION}, in words",
        challenger="lion/world",
        reference="lion/world-no-aggregator",
        benchmark="rec",
    ),
    Claim(
        "stages-over-joint",
        "adapters trained in stages beat one joint stage on questions",
        f"{LION}, in words",
        challenger="lion/world",
        reference="lion/world-joint",
        benchmark="vqa",
    ),
    Claim(
        "soft-over-hard-prompt",
        "with the tags of a tagger that errs, a soft prompt beats a hard one on object presence",
        f"{LION}, in words",
        challenger="lion/world",
        reference="lion/world-hard-prompt",
        benchmark="pope",
    ),
    Claim(
        "box-text-for-space",
        "detected boxes as text help questions about where things are",
        f"{MR_MLLM}, abstract",
        challenger="mr-mllm/world-text-only",
        reference="mr-mllm/world-no-perception",
        benchmark="vqa",
        group=RELATION,
    ),
    Claim(
        "perception-helps",
        "a detector's features and boxes help questions",
        f"{MR_MLLM}, abstract",
        challenger="mr-mllm/world",
        reference="mr-mllm/world-no-perception",
        benchmark="vqa",
    ),
    RefinementClaim(
        "refinement-helps-corner-cases",
        "objects refined by the shared queries have a higher AP on corner cases",
        f"{MR_MLLM}, abstract and figure 2",
        arm="mr-mllm/world",
        beside="mr-mllm/world-no-perception",
    ),
)


def chosen_claims(names: Sequence[str]) -> list[AnyClaim]:
    """Return the claims with these names, all for none.

    Raises:
        UsageError: no such claim.
    """
    known = {claim.name: claim for claim in CLAIMS}
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            raise UsageError(f"no claim {name!r}{nearest(name, known)}; claims: {listed}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(CLAIMS)
