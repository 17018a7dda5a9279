"""The library's subscription with its wake-up mended."""

from eventsourcing.postgres import PostgresSubscription
from psycopg.sql import SQL, Identifier

from infrastructure.postgres.listen import POLL_S


class LogSubscription(PostgresSubscription):
    """Never waits for a notification that was sent before it listened.

    The library reads first and listens afterwards, on another thread, and then waits without a limit: an event
    committed in between is seen only when the next one comes.
    """

    def _listen(self) -> None:
        try:
            with self._recorder.datastore.get_connection() as connection:
                connection.execute(SQL("LISTEN {}").format(Identifier(self._recorder.channel_name)))
                while not self._has_been_stopped and not self._thread_error:
                    self._has_been_notified.set()
                    for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                        pass
                connection.execute("UNLISTEN *")
        except BaseException as error:  # noqa: BLE001 - handed to the thread that iterates
            if self._thread_error is None:
                self._thread_error = error
            self.stop()
