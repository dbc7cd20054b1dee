"""Loading in workers: named errors, seeds that know no worker."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from manyeyes.data.dataset import ConversationDataset, load_images
from manyeyes.data.mixture import Mixture
from manyeyes.data.sampler import ResumableSampler
from manyeyes.errors import ImageError, PlaceholderError
from manyeyes.records import Sample, Turn

# Machines with two cores get three workers here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class _Processor:
    """Encodes the mean colour of the pictures and the number of a sample."""

    def encode(self, sample: Sample, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        if sample.task == "refused":
            raise PlaceholderError("1 <image> in the text but 0 images")
        pixels = [torch.tensor(list(image.resize((1, 1)).getpixel((0, 0)))) for image in images]
        return {"id": torch.tensor(int(sample.id)), "pixels": torch.stack(pixels).sum(0)}


def _samples(folder: Path, count: int, *, broken: tuple[int, ...] = ()) -> list[Sample]:
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (4, 4), (index, 2 * index, 0)).save(path)
        if index in broken:
            path.write_bytes(path.read_bytes()[:40])
        samples.append(Sample(str(index), (str(path),), (Turn("user", "<image>"),)))
    return samples


def _load(dataset: ConversationDataset, workers: int, epochs: int = 1) -> list[dict[str, list]]:
    sampler = ResumableSampler(len(dataset), seed=7)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers)
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += [{key: value.tolist() for key, value in batch.items()} for batch in loader]
    return batches


def _failure(dataset: ConversationDataset, workers: int) -> Exception:
    """The error of a load; the loader's workers are gone afterwards (a traceback keeps them)."""
    try:
        _load(dataset, workers)
    except Exception as error:
        caught = error.with_traceback(None)
        del error
        gc.collect()
        return caught
    raise AssertionError("nothing was raised")


def test_images_are_decoded_and_encoded(tmp_path: Path) -> None:
    dataset = ConversationDataset(_samples(tmp_path, 3), _Processor())
    assert [item["id"].item() for item in dataset] == [0, 1, 2]
    assert dataset[2]["pixels"].tolist() == [2, 4, 0]
    assert torch.equal(dataset[5]["pixels"], dataset[2]["pixels"])
    with pytest.raises(IndexError):
        dataset[-1]


def test_an_unreadable_image_names_sample_and_path(tmp_path: Path) -> None:
    samples = _samples(tmp_path, 3, broken=(1,))
    with pytest.raises(ImageError) as caught:
        ConversationDataset(samples, _Processor())[1]
    assert str(caught.value).startswith(f"sample '1': {samples[1].images[0]}: is not")
    assert caught.value.file == samples[1].images[0]
    with pytest.raises(ImageError):
        load_images(samples[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_hands_the_named_error_to_the_main_process(tmp_path: Path, workers: int) -> None:
    samples = _samples(tmp_path, 4, broken=(2,))
    error = _failure(ConversationDataset(samples, _Processor()), workers)
    assert type(error) is ImageError
    assert f"sample '2': {samples[2].images[0]}: " in str(error)


def test_what_the_processor_refuses_keeps_its_type_and_names_the_sample(tmp_path: Path) -> None:
    sample = _samples(tmp_path, 1)[0]
    refused = Sample("0", sample.images, sample.turns, task="refused")
    dataset = ConversationDataset([refused], _Processor())
    with pytest.raises(PlaceholderError) as caught:
        dataset[0]
    assert caught.value.__notes__ == ["in sample '0'"]
    error = _failure(dataset, 1)
    assert type(error) is PlaceholderError
    assert "in sample '0'" in str(error)


def _jitter(
    sample: Sample, images: list[Image.Image], seed: int
) -> tuple[Sample, list[Image.Image]]:
    return sample, [Image.new("RGB", (1, 1), (seed % 251, seed % 241, seed % 239)) for _ in images]


def test_augmentation_depends_on_seed_epoch_and_place_only(tmp_path: Path) -> None:
    samples = _samples(tmp_path, 5)
    runs = [
        _load(ConversationDataset(samples, _Processor(), seed=3, augment=_jitter), workers, 2)
        for workers in (0, 1, 3)
    ]
    assert runs[0] == runs[1] == runs[2]
    dataset = ConversationDataset(samples, _Processor(), seed=3, augment=_jitter)
    other = ConversationDataset(samples, _Processor(), seed=4, augment=_jitter)
    assert dataset[1]["pixels"].tolist() != dataset[1 + 5]["pixels"].tolist()
    assert dataset[1]["pixels"].tolist() != other[1]["pixels"].tolist()


@pytest.mark.parametrize("stop", range(1, 8))
def test_stopped_anywhere_and_resumed_the_same_pixels_follow(tmp_path: Path, stop: int) -> None:
    samples = _samples(tmp_path, 8)

    def run(sampler: ResumableSampler, epochs: range) -> list[list[list[int]]]:
        dataset = ConversationDataset(samples, _Processor(), augment=_jitter)
        seen = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            loader = DataLoader(dataset, batch_size=2, sampler=sampler)
            seen += [batch["pixels"].tolist() for batch in loader]
        return seen

    whole = run(ResumableSampler(8), range(2))
    interrupted = ResumableSampler(8)
    epoch, step = divmod(stop, 4)
    interrupted.set_epoch(epoch)
    resumed = ResumableSampler(8)
    resumed.load_state_dict(interrupted.state_dict(position=2 * step, world_size=1))
    assert run(resumed, range(epoch, 2)) == whole[stop:]


def test_a_mixture_hears_the_epoch_in_workers(tmp_path: Path) -> None:
    samples = _samples(tmp_path, 8)
    seen = []
    for workers in (0, 2):
        mixture = Mixture([samples[:6], samples[6:]], (1, 1), seed=2, length=6)
        seen.append(_load(ConversationDataset(mixture, _Processor()), workers, epochs=3))
    assert seen[0] == seen[1]
    ids = [index for batch in seen[0] for index in batch["id"]]
    assert [index < 6 for index in ids].count(True) == 9
    assert set(ids) == set(range(8))


def test_errors_survive_pickling() -> None:
    error = ImageError("is empty", file="a.png", line=3, key="image")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ImageError
    assert str(again) == str(error) == "a.png:3: image: is empty"
    assert (again.file, again.line, again.key) == ("a.png", 3, "image")
