"""A model behind the OpenAI API: requests to turns and images, turns to batches, batches to text.

request ─gate: key, size, time→ body ─requests→ turns, image sources ─image_sources→ bytes
bytes ─engine: image cache, prefix cache, batches→ tokens ─rows→ text ─handler→ reply
"""
