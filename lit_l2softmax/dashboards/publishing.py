"""Dashboards on W&B's server: what was published before is replaced, never doubled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import wandb
from wandb_workspaces._graphql import execute_graphql, get_app_url
from wandb_workspaces.reports.v2.gql import upsert_view

from lit_l2softmax.errors import RunError
from lit_l2softmax.wandb_options import WandbOptions, has_key

from .documents import Document

TIMEOUT_S = 10
KINDS = {"workspace": "project-view", "report": "runs"}  # W&B's words for them
# The fields that wandb's own Reports and wandb-workspaces' get_view_dict ask for.
FIND_VIEW = """
    query ProjectViews($entity: String!, $project: String!, $viewType: String, $viewName: String) {
        project(name: $project, entityName: $entity) {
            id
            allViews(viewType: $viewType, viewName: $viewName) { edges { node { id name } } }
        }
    }
"""


class Server:
    """W&B's server, as the owner of one project's dashboards.

    Args:
        options: project and entity; without one, ``$WANDB_ENTITY`` or the key's own.

    Raises:
        RunError: where there is no key, or the server does not answer within ten seconds, or refuses the key.
    """

    def __init__(self, options: WandbOptions) -> None:
        # Who asks for online beats $WANDB_MODE; W&B has no key offline, whatever there is.
        wandb.setup(wandb.Settings(mode="online"))
        if not has_key():
            raise RunError("W&B has no key: `wandb login` leaves one, and $WANDB_API_KEY gives one")
        with _one_line():
            self._api = wandb.Api(timeout=TIMEOUT_S)
            entity = options.entity or os.environ.get("WANDB_ENTITY") or self._api.default_entity
            if entity is None:
                raise ValueError("the key has no entity: --entity NAME")
        self.entity: str = entity
        self.project = options.project

    def publish(self, document: Document) -> str:
        """Makes a dashboard, or replaces what was published of it before; returns its address.

        Raises:
            RunError: where the server does not take it.
        """
        kind = KINDS[document.kind]
        with _one_line():
            found = self._ask(FIND_VIEW, viewType=kind, viewName=document.name)["project"]
            if found is None:
                self._api.create_project(self.project, self.entity)
            edges = found["allViews"]["edges"] if found else []
            known = [edge["node"]["id"] for edge in edges if edge["node"]["name"] == document.name]
            made = self._ask(
                upsert_view,
                id=known[0] if known else None,
                entityName=self.entity,
                projectName=self.project,
                type=kind,
                name=document.name,
                displayName=document.title,
                description=document.text,
                spec=document.spec,
            )["upsertView"]["view"]
            home = f"{get_app_url(self._api)}/{self.entity}/{self.project}"
        if document.kind == "workspace":
            return f"{home}?nw={document.name.removeprefix('nw-').removesuffix('-v')}"
        return f"{home}/reports/{document.title.replace(' ', '-')}--{made['id']}"

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        told = {"entity": self.entity, "project": self.project} if query is FIND_VIEW else {}
        return execute_graphql(self._api, query, {**told, **variables})


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a lost connection, a refused key, an answer that is none: W&B has no base for them
        reason = " ".join(str(error).split())
        raise RunError(f"W&B's server failed ({type(error).__name__}: {reason[:300]})") from error
