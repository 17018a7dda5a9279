"""Examples for the API's description."""

from typing import Any

VIDEO = "0198c2f0-6f3e-7c1a-9d7e-0d6a2f1b8c11"
ARTIFACT = "5b0f4f0e-5c3c-5a57-8f7e-2f1f6f0f9a10"
RUN = "7d0b7f6a-2f0e-5c8b-9a3d-4c1e2b5a6f70"
TASK = "0a4c8e1f-3b5d-5f7a-8c9e-1d2f3a4b5c6d"

COMPONENTS: dict[str, Any] = {
    "VideoBody": {"source": "/media/holiday/beach.mp4", "collection": "holiday"},
    "Accepted": {"video_id": VIDEO, "source": "/media/holiday/beach.mp4", "filename": "beach.mp4"},
    "TaskBody": {"task_type": "transcription", "profile": "balanced", "language": "en"},
    "TaskState": {"task_id": TASK, "status": "pending"},
    "PolicyBody": {"mode": "profile", "profile": "high_quality"},
    "DiscoverBody": {"root": "/media/holiday", "recursive": True, "watch": False},
    "Import": {
        "producer": "my-detector",
        "producer_version": "2.1",
        "artifacts": [
            {
                "artifact_type": "object.detection",
                "span_start_ms": 1500,
                "span_end_ms": 1500,
                "payload": {
                    "label": "dog",
                    "confidence": 0.91,
                    "box": [0.2, 0.3, 0.1, 0.2],
                    "frame_index": 45,
                },
            }
        ],
    },
    "ImportAnswer": {"run_id": RUN, "task_id": TASK, "count": 1},
    "VideoJump": {
        "jump_to": {"start_ms": 1500, "end_ms": 1500},
        "artifact_ids": [ARTIFACT],
        "video_id": VIDEO,
        "preview": {"label": "dog", "confidence": 0.91},
        "cursor": "WzEsInRpbWVsaW5lIixb",
    },
    "GlobalJump": {
        "results": [
            {
                "video_id": VIDEO,
                "video_filename": "beach.mp4",
                "file_created_at": "2025-07-01T10:00:00Z",
                "jump_to": {"start_ms": 1500, "end_ms": 1500},
                "artifact_id": ARTIFACT,
                "preview": {"label": "dog", "confidence": 0.91},
                "cursor": "WzEsInRpbWVsaW5lIixb",
            }
        ],
        "has_more": False,
    },
    "Problem": {
        "type": "urn:eioku:problem:invalid-parameter",
        "title": "A parameter is not valid",
        "status": 422,
        "detail": "limit: Expected `int` <= 50",
        "code": "INVALID_PARAMETER",
        "errors": [{"detail": "Expected `int` <= 50", "parameter": "limit"}],
    },
}
"""By the name of the schema."""

_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "filename": {"type": "string"},
        "file_created_at": {"type": "string", "format": "date-time"},
        "collection": {"type": "string"},
        "pipeline": {"type": "string", "description": "Task types, separated by commas; empty = none."},
    },
}
UPLOADS = {("/v1/videos", "post"): _FORM, ("/v1/videos/{video_id}", "put"): _FORM}
"""Operations that take a form beside JSON."""
