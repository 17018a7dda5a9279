"""The library's own recorder test cases hold for our recorders."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import eventsourcing.tests.persistence as library
import pytest

from infrastructure.event_store.factory import LogFactory
from infrastructure.event_store.recorder import LogProcessRecorder, LogRecorder, LogTrackingRecorder


class WithFactory:
    INITIAL_VERSION = 1
    factory: LogFactory

    @pytest.fixture(autouse=True)
    def _factory(self, database: str) -> Iterator[None]:
        self.factory = LogFactory({"POSTGRES_URL": database, "POSTGRES_POOL_SIZE": "20"})
        yield
        self.factory.close()

    def new_originator_id(self) -> UUID:
        return uuid4()


class TestApplicationRecorder(WithFactory, library.ApplicationRecorderTestCase[LogRecorder]):
    def create_recorder(self) -> LogRecorder:
        return self.factory.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingPositions(WithFactory, library.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1_000

    def create_recorder(self) -> LogRecorder:
        return self.factory.application_recorder()


class TestTrackingRecorder(WithFactory, library.TrackingRecorderTestCase):
    def create_recorder(self) -> LogTrackingRecorder:
        return self.factory.tracking_recorder()


class TestProcessRecorder(WithFactory, library.ProcessRecorderTestCase):
    def create_recorder(self) -> LogProcessRecorder:
        return self.factory.process_recorder()
