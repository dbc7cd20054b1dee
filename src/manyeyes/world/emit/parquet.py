"""Parquet for evaluation harnesses: ``parquet/{split}.parquet``, a question and its image per row.

Columns ``question_id``, ``image`` (``{bytes, path}``, which Hugging Face ``datasets`` shows as an
image), ``question``, ``answer``, ``question_type``, ``answer_type``. Needs the extra ``parquet``.
"""

from __future__ import annotations

import io

from manyeyes.errors import UsageError
from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files
from manyeyes.world.emit.vqa import answer_type, asked

ROWS_PER_GROUP = 100


def emit_parquet(world: SplitWorld) -> Files:
    """Write the split's questions.

    Raises:
        UsageError: ``datasets`` is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
        from datasets import Features, Image, Value
    except ImportError as error:
        message = "the format parquet needs `datasets`: pip install 'manyeyes[parquet]'"
        raise UsageError(message) from error
    texts = ("question_id", "question", "answer", "question_type", "answer_type")
    features = Features({"image": Image(), **{name: Value("string") for name in texts}})
    pictures = {image_id(scene): png_bytes(scene) for scene in world.scenes}
    rows = [
        {
            "image": {"bytes": pictures[image_id(scene)], "path": file_name(scene)},
            "question_id": str(number),
            "question": question.text,
            "answer": question.answer,
            "question_type": question.kind,
            "answer_type": answer_type(question.answer),
        }
        for scene, number, question in asked(world)
    ]
    stream = io.BytesIO()
    table = pyarrow.Table.from_pylist(rows, schema=features.arrow_schema)
    pyarrow.parquet.write_table(table, stream, row_group_size=ROWS_PER_GROUP)
    return {f"parquet/{world.name}.parquet": stream.getvalue()}
