"""hive-jdbc asks before every row whether its operation has finished: most of these questions Envoy answers by itself."""

import re

ROWS = 3000


def counted(envoy_admin, counter: str) -> int:
    """Of all clusters together, where the counter is one of clusters."""
    return sum(int(value) for value in re.findall(r": (\d+)", envoy_admin(f"/stats?filter={counter}$")))


def test_rows_of_beeline_do_not_cost_a_way_to_spark_each(beeline, envoy_admin, users):
    # Starts the server where none runs, so that nothing is held below.
    beeline("SELECT 1", users[0]).succeeded()
    requests, to_spark = "^http.spark.downstream_rq_total", r"^cluster\..*thrift.*\.upstream_rq_total"
    before = counted(envoy_admin, requests), counted(envoy_admin, to_spark)

    read = beeline(f"SELECT id FROM range({ROWS})", users[0]).succeeded().rows()
    # The header comes again and again.
    assert [row[0] for row in read if row != ["id"]] == [str(number) for number in range(ROWS)]

    asked, passed_on = (counted(envoy_admin, it) - was for it, was in zip((requests, to_spark), before))
    assert asked > ROWS, "beeline does not ask for every row any more"
    # Opening, running and closing, a batch of rows at a time, and one question in two seconds.
    assert 0 < passed_on < ROWS / 10
    assert counted(envoy_admin, "^http.spark.lua.errors") == 0
