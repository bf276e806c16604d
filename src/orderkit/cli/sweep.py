"""`orderkit sweep`: background work from cron or a systemd timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from orderkit.cli.options import Invocation, command
from orderkit.cli.output import ExitCode, table
from orderkit.cli.progress import progress

if TYPE_CHECKING:
    from orderkit.kit.front import OrderKit

commands = typer.Typer()

_STEPS: Final = {
    "collect_keys": "expired idempotency keys removed, of every tenant",
    "collect_operations": "leased operations removed that have finished and expired, of every tenant",
    "expire_orders": "pending orders expired whose time is over, of this tenant",
}


@command(
    commands,
    "sweep",
    examples="""
    orderkit sweep
    orderkit sweep --until-done --tenant acme
    orderkit sweep --json | jq .steps.expire_orders.done
    """,
)
def sweep(
    call: Invocation,
    until_done: Annotated[bool, typer.Option("--until-done", help="Go on until there is no more to do.")] = False,
) -> int:
    """Run each step of the background work: once, which is a bounded piece, or until all is done.

    Keys that have expired are removed for every tenant, orders expire for the tenant that is given. Several sweeps at
    once do no harm.
    """
    done: dict[str, int] = {}
    more: dict[str, bool] = {}
    interrupted = False
    with call.kit() as kit, progress(call.output.err, total=None, unit="things") as tell:
        try:
            while _swept(kit, done, more) and until_done:
                tell(sum(done.values()), 0)
        except KeyboardInterrupt:
            interrupted = True
    steps = {name: {"done": count, "more": more[name]} for name, count in done.items()}
    rows = [(name, count, "yes" if more[name] else "no", _STEPS.get(name)) for name, count in done.items()]
    call.output.result(
        {"steps": steps, "interrupted": interrupted},
        lambda console: console.print(table(("step", "done", "more to do", "what"), rows, right=("done",))),
    )
    if interrupted:
        call.output.say("Interrupted; what is done stays done. Run it again for the rest.")
    return ExitCode.INTERRUPTED if interrupted else ExitCode.DONE


def _swept(kit: OrderKit, done: dict[str, int], more: dict[str, bool]) -> bool:
    """Run each step once, add up what was done, and tell whether there is more to do and it gets less."""
    result = kit.sweep()
    for name, step in result.items():
        done[name] = done.get(name, 0) + step.done
        more[name] = step.more
    return any(step.more and step.done for step in result.values())
