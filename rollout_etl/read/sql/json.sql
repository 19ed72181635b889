-- Small pieces for JSON that stays text: a JSON string is handled with its quotes and escapes, so nothing is re-encoded.

CREATE OR REPLACE MACRO is_string(j) AS starts_with(j, '"');

-- The inside of a JSON string, still escaped.
CREATE OR REPLACE MACRO body(j) AS substring(j::VARCHAR, 2, length(j::VARCHAR) - 2);

-- JSON strings joined to one JSON string; whatever is no string is left out.
CREATE OR REPLACE MACRO joined(strings, separator) AS concat(
    '"', array_to_string(list_transform(list_filter(strings, lambda s: is_string(s) AND s <> '""'), lambda s: body(s)), separator), '"'
);

-- The text of a part list: output_text, input_text, text, summary_text and refusal alike.
CREATE OR REPLACE MACRO part_texts(parts) AS list_transform(
    json_transform(parts, '[{"text":"JSON","refusal":"JSON"}]'), lambda p: coalesce(p.text, p.refusal)::VARCHAR
);

-- Content of a message as one JSON string. Parts are joined without a separator, as the Responses API's output_text does.
CREATE OR REPLACE MACRO content_text(content) AS CASE
    WHEN content IS NULL THEN '""'
    WHEN is_string(content::VARCHAR) THEN content::VARCHAR
    WHEN starts_with(content::VARCHAR, '[') THEN joined(part_texts(content), '')
    ELSE to_json(content::VARCHAR)::VARCHAR
END;

-- True where a part list holds something that is not text: image, audio, video, file.
CREATE OR REPLACE MACRO holds_media(content) AS starts_with(content::VARCHAR, '[') AND len(list_filter(
    json_transform(content, '[{"type":"VARCHAR"}]'),
    lambda p: p.type NOT IN ('text', 'input_text', 'output_text', 'refusal', 'summary_text', 'reasoning_text')
)) > 0;

-- JSON has no NaN and no Infinity, but Python writes them and DuckDB reads them, in any case.
CREATE OR REPLACE MACRO holds_nonfinite(j) AS regexp_matches(j, '(?i)nan|inf') AND regexp_matches(
    regexp_replace(j, '"(?:[^"\\]|\\.)*"', '""', 'g'), '(?i)nan|inf'
);

-- Arguments of a tool call as a JSON object, or NULL where they are none. A call without arguments is recorded as "" or {}.
CREATE OR REPLACE MACRO arguments_object(arguments) AS CASE
    WHEN arguments IS NULL OR trim(arguments, E' \t\r\n') = '' THEN '{}'
    WHEN starts_with(ltrim(arguments, E' \t\r\n'), '{') AND json_valid(arguments) AND NOT holds_nonfinite(arguments)
        THEN json(arguments)::VARCHAR
END;

-- A number or a boolean as DOUBLE; NULL for strings and everything else.
CREATE OR REPLACE MACRO to_number(j) AS CASE j
    WHEN 'true' THEN 1.0
    WHEN 'false' THEN 0.0
    ELSE CASE WHEN NOT is_string(j) THEN TRY_CAST(j AS DOUBLE) END
END;

-- Flags are written as booleans, 0/1 or text.
CREATE OR REPLACE MACRO is_true(j) AS coalesce(j::VARCHAR IN ('true', '1', '1.0', '"true"', '"True"'), false);

-- Nothing but white space. Long texts are not searched for it.
CREATE OR REPLACE MACRO is_blank(t) AS CASE WHEN strlen(t) < 64 THEN regexp_full_match(t, '"(?:\\[nrt]| )*"') ELSE false END;

-- A value that holds something.
CREATE OR REPLACE MACRO filled(j) AS CASE WHEN j::VARCHAR NOT IN ('null', '[]', '{}') AND NOT is_blank(j::VARCHAR) THEN j::VARCHAR END;
