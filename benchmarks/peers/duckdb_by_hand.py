"""The same in DuckDB SQL, as one would write it for one shape of rollouts.

    python benchmarks/peers/duckdb_by_hand.py sft|dpo|split|stats ROLLOUTS OUTPUT
"""

from __future__ import annotations

import sys

import duckdb

ROWS = """
CREATE MACRO rollouts(path) AS TABLE SELECT * FROM read_json(path, format := 'newline_delimited', columns := {
    reward: 'DOUBLE', responses_create_params: 'STRUCT(input STRUCT(role VARCHAR, content VARCHAR)[])',
    response: 'STRUCT(output STRUCT(type VARCHAR, content STRUCT(text VARCHAR)[], summary STRUCT(text VARCHAR)[])[])'
});
CREATE MACRO question_of(asked) AS list_filter(asked.input, lambda item: item.role = 'user')[-1].content;
CREATE MACRO answer_of(given) AS list_filter(given.output, lambda item: item.type = 'message')[-1].content[1].text;
"""
SFT = """
SELECT list_append(responses_create_params.input, {role: 'assistant', content: answer_of(response)}) AS messages
FROM rollouts(getvariable('path')) WHERE reward >= 0.95
"""
DPO = """
SELECT question_of(responses_create_params) AS prompt, arg_max(answer_of(response), reward) AS chosen, arg_min(answer_of(response), reward) AS rejected
FROM rollouts(getvariable('path')) GROUP BY prompt HAVING max(reward) - min(reward) >= 0.2
"""

SPLIT = """
SELECT list_append(responses_create_params.input, {role: 'assistant', content: answer_of(response)}) AS messages,
    hash(question_of(responses_create_params)) % 10 = 0 AS validation
FROM rollouts(getvariable('path')) WHERE reward >= 0.95
"""
STATS = """
SELECT avg(mean_reward) AS mean_reward, count() AS groups, count_if(mean_reward > 0) AS solved FROM (
    SELECT avg(reward) AS mean_reward FROM rollouts(getvariable('path')) GROUP BY question_of(responses_create_params))
"""
QUERIES = {"sft": SFT, "dpo": DPO, "split": "FROM together WHERE NOT validation", "stats": STATS}


def main() -> None:
    recipe, source, output = sys.argv[1:4]
    con = duckdb.connect()
    con.execute(ROWS)
    con.execute("SET VARIABLE path = $path", {"path": source})
    if recipe == "split":
        con.execute(f"CREATE TABLE together AS {SPLIT}")
        con.execute(f"COPY (FROM together WHERE validation) TO '{spelt(output + '.val')}' (FORMAT json)")
    con.execute(f"COPY ({QUERIES[recipe]}) TO '{spelt(output)}' (FORMAT json)")


def spelt(path: str) -> str:
    return path.replace("'", "''")


if __name__ == "__main__":
    main()
