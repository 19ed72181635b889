"""The same in DuckDB SQL, as one would write it for one shape of rollouts.

    python benchmarks/peers/duckdb_by_hand.py sft|dpo ROLLOUTS OUTPUT
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


def main() -> None:
    recipe, source, output = sys.argv[1:4]
    con = duckdb.connect()
    con.execute(ROWS)
    con.execute("SET VARIABLE path = $path", {"path": source})
    con.execute(f"COPY ({SFT if recipe == 'sft' else DPO}) TO '{output.replace(chr(39), chr(39) * 2)}' (FORMAT json)")


if __name__ == "__main__":
    main()
