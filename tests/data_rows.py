"""One small sound file of every JSON format, for the tests of the readers."""

from __future__ import annotations

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
