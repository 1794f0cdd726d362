"""Alembic's entry point: runs the migrations on the connection that :mod:`nodeseal.verifier.store.migrate` opened."""

from alembic import context

from nodeseal.verifier.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
