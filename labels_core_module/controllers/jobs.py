"""Long work on labels: begun, looked at, cancelled."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator
from waddlebot.base.contracts import Attributed
from waddlebot.community.communities import Reference
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.communities import Communities
from ..services.job_service import Action, JobService

Text = Annotated[str, StringConstraints(max_length=255)]


class JobsQuery(Page):
    community_id: Text | None = None


class NewJob(Attributed):
    """A label for everybody in `csv`, a person in the first column of each line, or for everybody who has so many
    points by now."""

    label: Text
    action: Action = "apply"
    community_id: Reference | None = None
    csv: str | None = None
    points_at_least: int | None = Field(None, ge=0, lt=2**62)
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.csv is None) == (self.points_at_least is None):
            raise ValueError("say either csv or points_at_least")
        return self


@endpoint("GET", "/labels/jobs", caller=ADMINS_OR_API_USERS, area="people", query=JobsQuery)
def list_jobs(query: JobsQuery, caller: Account, communities: Communities, jobs: JobService) -> dict[str, Any]:
    """List a community's jobs, newest first."""
    return list_answer("jobs", jobs.list_jobs(communities.get(caller, query.community_id), query), query)


@endpoint("POST", "/labels/jobs", caller=ADMINS_OR_API_USERS, area="people", body=NewJob)
def make_job(
    body: NewJob, caller: Account, database: Database, communities: Communities, jobs: JobService
) -> dict[str, Any]:
    """Begin a job; it goes on by itself, whatever becomes of this process."""
    community_id = communities.get(caller, body.community_id)
    with database.transaction() as db:
        job = jobs.make(
            db,
            community_id,
            body.action,
            body.label,
            file=body.csv,
            min_points=body.points_at_least,
            expires_at=body.expires_at,
        )
    jobs.wake.set()
    return {"success": True, "job": job}


@endpoint("GET", "/labels/jobs/<job_id:int>", caller=ADMINS_OR_API_USERS, area="people")
def show_job(job_id: int, caller: Account, database: Database, jobs: JobService) -> dict[str, Any]:
    """Show how far a job is, how its parts ended, and the first of those that did not work."""
    with database.reading() as db:
        return {"success": True, "job": jobs.get(db, job_id, caller.community_id)}


@endpoint("DELETE", "/labels/jobs/<job_id:int>", caller=ADMINS_OR_API_USERS, area="people")
def cancel_job(job_id: int, caller: Account, database: Database, jobs: JobService) -> dict[str, Any]:
    """End a job early; what it has done stays."""
    with database.transaction() as db:
        return {"success": True, "job": jobs.cancel(db, job_id, caller.community_id)}
