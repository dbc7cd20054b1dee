"""One small sound file of every JSON format, for the tests of the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LLAVA = {
    "id": "a",
    "image": "one.png",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cube."},
    ],
}
SHAREGPT = {
    "system": "Be brief.",
    "images": ["one.png", "two.png"],
    "conversations": [
        {"from": "human", "value": "<image> <image> Same?"},
        {"from": "gpt", "value": "No."},
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "Colour."},
    ],
}
OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "one.png"}},
                {"type": "text", "text": "What is it?"},
                {"type": "image"},
            ],
        },
        {"role": "assistant", "content": "A cube."},
    ],
    "images": ["two.png"],
}
POPE = {"question_id": 7, "image": "one.png", "text": "Is there a cat?", "label": "no"}
REF = {"id": 3, "image": "one.png", "image_id": 9, "expression": "red cube", "bbox": [1, 2, 3, 4]}
CAPTIONS = {
    "images": [{"id": 1, "file_name": "one.png"}, {"id": 2, "file_name": "two.png"}],
    "annotations": [
        {"id": 10, "image_id": 1, "caption": "A cube."},
        {"id": 11, "image_id": 2, "caption": "A ball."},
        {"id": 12, "image_id": 1, "caption": "One\ncube."},
    ],
}
INSTANCES = {
    "images": CAPTIONS["images"],
    "categories": [{"id": 1, "name": "cube"}, {"id": 2, "name": "ball"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9.5, 9], "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [5, 5, 1, 1], "iscrowd": 0},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}
QUESTIONS = {
    "data_subtype": "val2014",
    "questions": [{"question_id": 42, "image_id": 8, "question": "How many?"}],
}
ANSWERS = {
    "annotations": [
        {
            "question_id": 42,
            "image_id": 8,
            "question_type": "how many",
            "answer_type": "number",
            "multiple_choice_answer": "2",
            "answers": [{"answer": "2", "answer_id": n} for n in range(1, 11)],
        }
    ]
}
KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_000000000008.jpg",
            "cocoid": 8,
            "imgid": 0,
            "split": "restval",
            "sentences": [
                {"raw": "A cube.", "tokens": ["a", "cube"], "imgid": 0, "sentid": 4},
                {"raw": "One\ncube .", "tokens": ["one", "cube"], "imgid": 0, "sentid": 5},
            ],
        },
        {
            "filename": "flickr.jpg",
            "imgid": 1,
            "split": "test",
            "sentences": [{"raw": "A ball.", "sentid": 6}],
        },
    ],
}
GQA = {
    "001": {
        "question": "What color is it?",
        "imageId": "2354786",
        "answer": "red",
        "fullAnswer": "It is red.",
        "isBalanced": True,
        "types": {"structural": "query", "semantic": "attr", "detailed": "color"},
    }
}
REGIONS = [
    {
        "id": 7,
        "regions": [
            {
                "region_id": 70,
                "image_id": 7,
                "x": 1,
                "y": 2,
                "width": 3,
                "height": 4,
                "phrase": "a  red cube",
            }
        ],
    }
]
GENOME_QUESTIONS = [
    {"id": 7, "qas": [{"qa_id": 71, "image_id": 7, "question": "What?", "answer": "A cube."}]}
]
IMAGE_TEXT = {"id": "c", "image": "one.png", "caption": "A  cube."}
QUESTION_ANSWER = {"question_id": 9, "image": "one.png", "question": "What?", "answer": "A cube"}
SHIKRA = {
    "image": "one.png",
    "target": {"boxes": [[0, 0, 2, 2], [1, 1, 3, 3], [4, 4, 5, 5]], "points": [[2, 1]]},
    "conversations": [
        {"from": "human", "value": "What joins <boxes> in <image>?", "boxes_seq": [[0, 1]]},
        {
            "from": "gpt",
            "value": "A rope <boxes> at <points>, not <boxes>.",
            "boxes_seq": [[2], [0]],
            "points_seq": [[0]],
        },
    ],
}
SHIKRA_REASONING = {
    "img_path": "one.png",
    "boxes": [[0, 0, 2, 2], [1, 1, 3, 3]],
    "question": "Is <ph_st>the cube<ph_ed> red?",
    "question_boxes_seq": [[0]],
    "cot_with_ans": "<ph_st>The cube<ph_ed> is beside <ph_st>a ball<ph_ed>. Yes.",
    "answer_boxes_seq": [[0], [1]],
}
SHIKRA_SENTENCE = {
    "image_id": "36979",
    "boxes": [[0, 0, 2, 2]],
    "sentence": "<ph_st>A cube<ph_ed> on a table.",
    "boxes_seq": [[0]],
}
POINT_QUESTION = {
    "file_path": "one.png",
    "question": "What shape?",
    "answer": "cube",
    "bbox": [0, 0, 2, 2],
    "point": [1, 1.5],
}
POINTING = {
    "file_path": "one.png",
    "question": "Which is red?",
    "candidates": [[0, 0, 2, 2], [1, 1, 3, 3]],
    "answer": [1, 1, 3, 3],
    "point": [2, 2],
}


def write_rows(path: Path, content: Any) -> Path:
    """Write JSON, or JSON lines for ``.jsonl``; return the path."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_vqa(folder: Path, questions: Any = QUESTIONS, answers: Any = ANSWERS) -> Path:
    """Write VQAv2's two files; return that of the questions."""
    write_rows(folder / "v2_mscoco_val2014_annotations.json", answers)
    return write_rows(folder / "v2_OpenEnded_mscoco_val2014_questions.json", questions)
