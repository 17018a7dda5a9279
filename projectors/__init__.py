"""The read side: one file = one read model, its table, its handlers and its queries."""

from projectors.artifacts import Artifacts
from projectors.face_clusters import FaceClusters
from projectors.frame_vectors import FrameVectors
from projectors.object_labels import ObjectLabels
from projectors.ocr_fts import OcrFts
from projectors.places import Places
from projectors.projection import Projection
from projectors.run_types import RunTypes
from projectors.runs import Runs
from projectors.scans import Scans
from projectors.scene_ranges import SceneRanges
from projectors.tasks import Tasks
from projectors.text_vectors import TextVectors
from projectors.transcript_fts import TranscriptFts
from projectors.video_locations import VideoLocations
from projectors.videos import Videos

PROJECTIONS: tuple[type[Projection], ...] = (
    Videos,
    Tasks,
    Runs,
    RunTypes,
    Artifacts,
    Scans,
    TranscriptFts,
    OcrFts,
    ObjectLabels,
    FaceClusters,
    Places,
    SceneRanges,
    VideoLocations,
    TextVectors,
    FrameVectors,
)
