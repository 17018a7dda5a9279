"""The routes, one module for each area."""

from api.routes.artifacts import Artifacts
from api.routes.description import Description
from api.routes.discover import DiscoverBody, Discoveries
from api.routes.health import Health
from api.routes.imports import Imports
from api.routes.media import Media
from api.routes.pictures import PicturesOfVideos
from api.routes.queues import PauseBody, Queues, ResumeBody
from api.routes.reruns import RerunBody, Reruns
from api.routes.runs import Runs
from api.routes.search import Search
from api.routes.selections import PolicyBody, Selections
from api.routes.tasks import RetryBody, TaskBody, Tasks
from api.routes.timeline import Timeline
from api.routes.transcripts import Transcripts
from api.routes.videos import VideoBody, Videos
from application.imports import Import

CONTROLLERS = (
    Videos,
    Media,
    PicturesOfVideos,
    Transcripts,
    Imports,
    Tasks,
    Queues,
    Reruns,
    Runs,
    Artifacts,
    Selections,
    Timeline,
    Search,
    Discoveries,
    Health,
    Description,
)

BODIES = (VideoBody, TaskBody, RetryBody, PauseBody, ResumeBody, RerunBody, DiscoverBody, PolicyBody, Import)
"""What routes take as JSON."""
