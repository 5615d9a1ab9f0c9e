"""Prefect's command line, with a SQLite database whose writers wait for each other.

    python -m flows.server.patient server start …

Prefect (3.8.8) begins nearly every transaction as a reader's. When it goes on to write, and another has written since
it read, SQLite refuses at once ("database is locked"), however long it was told to wait. A request is then made again
by its client, but nobody makes an event again: after four tries within a tenth of a second automations give it up, and
hold back for a quarter of an hour all that followed it. So the second crash of a run went unseen, and the run stayed
where it was (docs/log.md).

Here a transaction that may write says so when it begins, and waits for its turn. PostgreSQL is not concerned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.cli import app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.server.utilities.database import get_dialect
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class PatientSqlite(AioSqliteConfiguration):
    """Begins every transaction that may write as a writer's."""

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,  # noqa: ARG002 - Prefect's signature
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Wait for the one writer before, and begin."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def main() -> None:
    """Prefect's own command line."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if get_dialect(url).name == "sqlite":
        set_database_config(PatientSqlite(url))
    app()


if __name__ == "__main__":
    main()
