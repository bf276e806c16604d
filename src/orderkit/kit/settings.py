"""Settings of a kit, from the environment or from code, with a profile for each surrounding."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orderkit.errors import ConfigurationError
from orderkit.storage.options import DEFAULTS, Pooler


class Profile(StrEnum):
    """What the kit is used for: where orders are kept, and how large the pool is, where nothing is said.

    `dev` keeps orders in a SQLite file of the working directory, `test` keeps them in memory, `prod` has no default
    for the database. `dev` and `test` leave connections to others, and say sooner that there are none.
    """

    DEV = "dev"
    TEST = "test"
    PROD = "prod"


_DEFAULT_URLS = {Profile.DEV: "sqlite:///orderkit.db", Profile.TEST: "memory://"}

_POOLS: dict[str, dict[str, object]] = {
    Profile.DEV: {"pool_size": 2, "max_overflow": 8},
    Profile.TEST: {"pool_size": 1, "max_overflow": 9, "pool_timeout": 5.0, "connect_timeout": 3.0},
}
"""What differs from the defaults: a server on a developer's machine, or that of the tests, has few connections and
many who want one: programs that are started again at each change, and tests side by side."""


class Settings(BaseSettings):
    """Settings of a kit. Each is read from `ORDERKIT_` and its name in capitals where it is not given.

    Raises:
        ConfigurationError: A setting cannot be; the message names it, not its value.

    Example:
        >>> Settings(profile="test").url
        'memory://'
    """

    model_config = SettingsConfigDict(env_prefix="ORDERKIT_", frozen=True, extra="forbid", hide_input_in_errors=True)

    if not TYPE_CHECKING:

        def __init__(self, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigurationError(_told(error)) from None

    profile: Profile = Field(default=Profile.DEV, description="What the kit is used for.")
    database_url: SecretStr | None = Field(default=None, description="Where orders are kept.")
    table_schema: str | None = Field(default=None, description="The schema of the tables, where the database has any.")
    create_tables: bool | None = Field(default=None, description="Create missing tables on first use; SQLite does.")
    pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=DEFAULTS.pool_size, description="Connections kept open."
    )
    max_overflow: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=DEFAULTS.max_overflow, description="Connections beyond those."
    )
    pool_timeout: Annotated[float, Field(gt=0)] = Field(
        default=DEFAULTS.pool_timeout, description="Seconds to wait for a connection of the pool."
    )
    pooler: Pooler | None = Field(
        default=DEFAULTS.pooler, description="`transaction` where PgBouncer in that mode is in front of PostgreSQL."
    )
    connect_timeout: Annotated[float, Field(gt=0)] = Field(
        default=DEFAULTS.connect_timeout, description="Seconds to wait for a server."
    )
    lock_timeout: Annotated[float, Field(gt=0)] = Field(
        default=DEFAULTS.lock_timeout, description="Seconds to wait for a lock."
    )
    statement_timeout: Annotated[float, Field(gt=0)] | None = Field(
        default=DEFAULTS.statement_timeout, description="Seconds a statement may take; no limit where absent."
    )
    durable: bool = Field(default=True, description="Whether SQLite waits for the disk at every commit.")
    group_commit: bool = Field(
        default=DEFAULTS.group_commit,
        description="Whether commits that come at the same time share one; each waits for its own.",
    )
    max_lines: Annotated[int, Field(ge=1, le=100_000)] = Field(default=1000, description="Lines of an order.")
    idempotency_retention: Annotated[float, Field(ge=86_400, le=31_536_000)] = Field(
        default=259_200, description="Seconds the result of an idempotency key is kept: 72 hours, at least 24."
    )
    cursor_secret: SecretStr | None = Field(
        default=None, description="Signs page cursors; derived from the database URL where absent."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_profile(cls, given: dict[str, object]) -> dict[str, object]:
        """Fill in what the profile says otherwise."""
        return {**_POOLS.get(str(given.get("profile", Profile.DEV)), {}), **given}

    @property
    def url(self) -> str:
        """The database URL, the profile's own where none is given.

        Raises:
            ConfigurationError: The profile has none.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if self.profile not in _DEFAULT_URLS:
            raise ConfigurationError("The profile 'prod' has no default database: set ORDERKIT_DATABASE_URL.")
        return _DEFAULT_URLS[self.profile]


def _told(error: ValidationError) -> str:
    """Return what is wrong with which settings, without their values, which may be secret."""
    wrong = "; ".join(
        f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return f"The settings cannot be used, whether from code or from ORDERKIT_… variables. {wrong}."
