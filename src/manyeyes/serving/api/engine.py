"""The model's thread: requests wait in a queue, and those that fit together are answered together.

    jobs ─images seen once, by content→ prompts ─beginnings read once→ one batch ─generate→ rows

A job is done when its own row has ended, however long the others of its batch go on.

Shapes: B jobs of a batch, T positions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from transformers import StoppingCriteriaList

from manyeyes.errors import ManyEyesError, RequestError
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.seen_images import SeenImage, Sight
from manyeyes.language import position_limit, too_long
from manyeyes.model.inputs import with_stop
from manyeyes.records import Turn
from manyeyes.serving.api.batching import Waiting
from manyeyes.serving.api.image_cache import ImageCache
from manyeyes.serving.api.limits import Limits
from manyeyes.serving.api.metrics import Metrics
from manyeyes.serving.api.requests import Sampling
from manyeyes.serving.api.rows import BatchStream, Row, RowsEnd


@dataclass(eq=False)
class Job:
    """A question, its images by digest of their bytes, and the row that takes the answer.

    ``pictures``: decoded, or None where the image was known. ``seen`` is filled before the answer
    is written, ``done`` when it is complete or has failed.
    """

    turns: Sequence[Turn]
    digests: Sequence[str]
    pictures: Sequence[Image.Image | None]
    seen: list[SeenImage | None]
    sampling: Sampling
    row: Row
    prompt_tokens: int = 0
    arrived: float = field(default_factory=time.monotonic)
    done: Future[None] = field(default_factory=Future)

    @property
    def images(self) -> list[SeenImage]:
        """What the model saw."""
        return [image for image in self.seen if image is not None]


class Engine:
    """Answers jobs in a thread of its own.

    Args:
        sight: the model, its processor and its tagger. on_fault: told of mistakes in the program.
    """

    def __init__(
        self,
        sight: Sight,
        limits: Limits,
        metrics: Metrics,
        on_fault: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        sight.model.eval()
        self.sight, self.limits, self.metrics = sight, limits, metrics
        self.images = ImageCache(limits.image_bytes)
        self._prefixes = PrefixCache(sight.model, limit=limits.prefix_bytes)
        self._model: Any = sight.model
        self._on_fault = on_fault
        self._waiting: Waiting[Job | Future[Any]] = Waiting(
            limits.queue, limits.batch, _together, metrics.waiting.set
        )
        self._tasks: dict[Future[Any], Callable[[], Any]] = {}
        self._thread = threading.Thread(target=self._run, name="manyeyes-engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are answered."""
        return self._thread.is_alive() and not self._waiting.ending

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            RequestError: 429 when too many wait; 503 when the server ends.
        """
        self._enqueue(job)

    def call(self, task: Callable[[], Any]) -> Future[Any]:
        """Run something else that needs the model, in its turn; raises like ``submit``."""
        future: Future[Any] = Future()
        self._tasks[future] = task
        try:
            self._enqueue(future)
        except RequestError:
            del self._tasks[future]
            raise
        return future

    def _enqueue(self, entry: Job | Future[Any]) -> None:
        if not self._thread.is_alive():
            raise RequestError("the server is shutting down", status=503)
        self._waiting.put(entry)

    def stop(self, seconds: float = 30.0) -> None:
        """Answer what waits, take nothing new, and end."""
        self._waiting.end()
        self._thread.join(seconds)

    def _run(self) -> None:
        while (batch := self._waiting.take()) is not None:
            jobs = [entry for entry in batch if isinstance(entry, Job)]
            for entry in batch:
                if isinstance(entry, Future):
                    self._do(entry)
            if jobs:
                self._answer(jobs)

    def _do(self, future: Future[Any]) -> None:
        task = self._tasks.pop(future)
        try:
            future.set_result(task())
        except Exception as error:
            future.set_exception(self._told(error))

    def _answer(self, jobs: Sequence[Job]) -> None:
        wanted = [job for job in jobs if self._wanted(job)]
        try:
            self._see(wanted)
            ready = [job for job in wanted if self._prepared(job)]
            if ready:
                self._generate(ready)
        except Exception as error:
            if len(wanted) > 1 and not any(job.row.tokens for job in wanted):
                for job in wanted:  # one that fails must not take the others with it
                    self._answer([job])
                return
            for job in wanted:
                self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.done.done():
            job.done.set_exception(self._told(error))

    def _told(self, error: Exception) -> Exception:
        """The error as the client hears of it; what nobody meant to raise is for the log."""
        if isinstance(error, RequestError):
            return error
        if isinstance(error, ManyEyesError):
            return RequestError(str(error))
        self._on_fault(error)
        return RequestError("the model failed on this request", status=500)

    def _wanted(self, job: Job) -> bool:
        """Whether somebody still waits for the answer."""
        if job.row.abandoned is not None:
            self._fail(job, RequestError("the request waited too long in the queue", status=503))
        return not job.done.done()

    def _see(self, jobs: Sequence[Job]) -> None:
        """Look at those images of jobs that nobody has seen, all together."""
        known: dict[str, SeenImage] = {}
        new: dict[str, Image.Image] = {}
        for job in jobs:
            for digest, picture, seen in zip(job.digests, job.pictures, job.seen, strict=True):
                found = seen or self.images.get(digest)
                if found is not None:
                    known[digest] = found
                elif picture is not None:
                    new[digest] = picture
        for digest, seen in zip(new, self.sight.see(list(new.values())), strict=True):
            self.images.put(digest, seen)
            known[digest] = seen
        for job in jobs:
            job.seen[:] = [known[digest] for digest in job.digests]
        self.metrics.images_encoded.inc(len(new))
        self.metrics.images_reused.inc(sum(len(job.digests) for job in jobs) - len(new))

    @torch.inference_mode()
    def _prepared(self, job: Job) -> bool:
        """Count the job's tokens and make its row ready; False = it has failed."""
        try:
            processor, prompt = self.sight.processor, self.sight.prompt(job.turns, job.images)
            lengths = processor.image_lengths([image.size for image in job.images])
            (ids,) = processor.text_rows.ids([prompt], lengths=lengths)
            job.prompt_tokens = len(ids)
            job.row.begin(self.sight.processor.tokenizer, self._room(job), self._ends())
        except Exception as error:
            self._fail(job, error)
        return not job.done.done()

    def _room(self, job: Job) -> int:
        in_sequence = self.sight.processor.answers_in_sequence
        limit = position_limit(self._model.config.text_config)
        problem = too_long(job.prompt_tokens, limit, answered=in_sequence)
        if problem is not None:
            raise RequestError(
                f"the conversation has {problem}", code="context_length_exceeded", param="messages"
            )
        if limit is None or not in_sequence:
            return job.sampling.tokens
        return min(job.sampling.tokens, limit - job.prompt_tokens)

    def _ends(self) -> list[int]:
        own, more = self._model.generation_config.eos_token_id, self._model.config.answer_end
        known = [own] if isinstance(own, int) else list(own or ())
        return known if more is None else with_stop(known, more)

    @torch.inference_mode()
    def _generate(self, jobs: Sequence[Job]) -> None:
        rows = [job.row for job in jobs]
        inputs, shown = self._inputs(jobs)
        sampling = jobs[0].sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        self.metrics.batches.inc()
        self._model.generate(
            **inputs,
            **({} if shown is None else {"evidence": shown.evidence, "image_index": shown.rows}),
            **sampling.arguments,
            max_new_tokens=max(row.room for row in rows),
            streamer=BatchStream(rows, lambda place: self._end(jobs[place])),
            stopping_criteria=StoppingCriteriaList([RowsEnd(rows)]),
        )
        for job in jobs:
            if not job.done.done():  # the model's own settings ended it
                self._end(job)

    def _end(self, job: Job) -> None:
        """Hand over a complete answer."""
        self.metrics.seconds.observe(time.monotonic() - job.arrived)
        self.metrics.tokens.inc(len(job.row.tokens))
        if job.row.reason == "late":
            self._fail(job, RequestError("the answer took too long", status=504))
        else:
            job.done.set_result(None)

    def _inputs(self, jobs: Sequence[Job]) -> tuple[dict[str, Any], Any]:
        questions = [job.turns[-1].text for job in jobs]
        batch = self.sight.processor.answer_inputs(
            [self.sight.prompt(job.turns, job.images) for job in jobs],
            images_encoded=True,
            questions=questions,
            image_sizes=[image.size for job in jobs for image in job.images],
        )
        inputs = {name: value.to(self._model.device) for name, value in batch.items()}
        images = [image for job in jobs for image in job.images]
        asked = [text for text, job in zip(questions, jobs, strict=True) for _ in job.images]
        shown = self.sight.shown(images, asked)
        if shown is None or self.sight.reads_questions:
            return inputs, shown
        before = (self._prefixes.read, self._prefixes.reused)
        names = [digest for job in jobs for digest in job.digests]
        inputs = self._prefixes.share(inputs, shown, names)
        self.metrics.prefixes_read.inc(self._prefixes.read - before[0])
        self.metrics.prefixes_reused.inc(self._prefixes.reused - before[1])
        return inputs, shown


def _together(first: Job | Future[Any], other: Job | Future[Any]) -> bool:
    """Whether two jobs are decoded alike, so that one batch can answer them."""
    if isinstance(first, Future) or isinstance(other, Future):
        return False
    return first.sampling.seed is None and first.sampling.key == other.sampling.key
