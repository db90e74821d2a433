"""kill -9 of the logger between a COMMIT and its answer; it starts again with another batch limit.

The answer to a request that stored is withheld, and the logger killed while it waits for it: what is stored
must not be stored again, however the next life puts its transactions together.
python -m long.restart_after_commit [--count N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import random
import time

from long.harness import (
    Logger,
    figure,
    finish,
    folder,
    in_spool,
    judge,
    none,
    plant,
    run_words,
    scans_at,
    schema_in,
    server,
    stored,
    until,
)
from long.wire import Harm, WireProxy

from logger.scan import StreamKey

SETTLED_S = 0.05
"""After it the server has carried out what it was sent."""


def run(count: int) -> None:
    with server() as postgres, folder() as place, plant(place, 1, 20) as (file, _):
        proxy, dice = WireProxy(postgres.conninfo), random.Random(11)
        with schema_in(postgres.conninfo) as schema:
            words = run_words(file, schema, place / "spool", "--interval", "20ms", conninfo=proxy.conninfo)
            accepted: dict[StreamKey, set[int]] = {}
            had_committed = 0
            for _ in range(count):
                proxy.refuses = True
                logger = Logger(words, place / "log", max_scans=dice.choice([1, 2, 3, 7, 20, 50]))
                time.sleep(0.3 + dice.random() * 0.4)  # scans gather
                skip = dice.randrange(3)
                hits = len(proxy.suffered)

                def choose(left: list[int] = [skip]) -> Harm | None:  # noqa: B006 - its own count
                    left[0] -= 1
                    return Harm("after", "hole") if left[0] == -1 else None

                proxy.choose, proxy.refuses = choose, False
                until(lambda n=hits: len(proxy.suffered) > n, "a request that stores")  # type: ignore[misc]
                time.sleep(SETTLED_S)
                logger.kill()
                for key, found in in_spool(place / "spool").items():
                    accepted.setdefault(key, set()).update(found.values())
            proxy.choose = lambda: None
            before = stored(schema)
            last = Logger(words, place / "log")
            until(lambda: stored(schema) > before + 20, "scans to be stored")
            last.terminate(20)
            ids = [t.bytes for (t,) in schema.rows("SELECT transaction_id FROM logging_transactions")]
            had_committed = sum(any(each in felt.request for each in ids) for felt in proxy.suffered)
            figure("answers withheld, loggers killed", len(proxy.suffered), "", f">= {count}", True)
            figure(
                "of which had committed", had_committed, "", f">= {count // 2}", had_committed >= count // 2
            )
            there = scans_at(schema)
            lost = sum(len(times - there.get(key, set())) for key, times in accepted.items())
            none("accepted and lost", lost, "scans")
            judge(schema)
        proxy.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    run(parser.parse_args().count)
    finish()


if __name__ == "__main__":
    main()
