-- Small pieces for JSON that stays text: a JSON string is handled with its quotes and escapes, so nothing is re-encoded.

CREATE OR REPLACE MACRO is_string(j) AS starts_with(j, '"');

-- A string that can name something: a tool, a call.
CREATE OR REPLACE MACRO is_name(j) AS coalesce(is_string(j) AND j <> '""', false);

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

-- The same for the content of a message, where a part may be a plain string. In a tool result, a list of strings is data.
CREATE OR REPLACE MACRO said_texts(parts) AS CASE
    WHEN list_contains(json_type(parts, '$[*]'), 'VARCHAR') THEN list_transform(
        json_extract(parts, '$[*]'), lambda p: CASE WHEN is_string(p::VARCHAR) THEN p::VARCHAR ELSE part_texts(json_array(p))[1] END
    )
    ELSE part_texts(parts)
END;

-- A value that is not a list as one JSON string: a text, nothing, or data, whose JSON becomes the text.
CREATE OR REPLACE MACRO scalar_text(content) AS CASE
    WHEN content IS NULL THEN '""'
    WHEN is_string(content::VARCHAR) THEN content::VARCHAR
    ELSE to_json(content::VARCHAR)::VARCHAR
END;

-- Content of a message as one JSON string. Parts are joined without a separator, as the Responses API's output_text does.
CREATE OR REPLACE MACRO content_text(content) AS CASE
    WHEN coalesce(starts_with(content::VARCHAR, '['), false) THEN joined(said_texts(content), '')
    ELSE scalar_text(content)
END;

-- True where a part list holds something that is not text: image, audio, video, file.
CREATE OR REPLACE MACRO holds_media(content) AS starts_with(content::VARCHAR, '[') AND len(list_filter(
    json_transform(content, '[{"type":"VARCHAR"}]'),
    lambda p: p.type NOT IN ('text', 'input_text', 'output_text', 'refusal', 'summary_text', 'reasoning_text')
)) > 0;

CREATE OR REPLACE MACRO names_media(kind) AS kind IN (
    'input_image', 'image_url', 'image', 'computer_screenshot', 'input_audio', 'audio_url', 'input_video', 'video_url', 'input_file'
);

-- Whether an object is a part, not data.
CREATE OR REPLACE MACRO is_part(j) AS list_contains(json_type(j, ['/text', '/refusal']), 'VARCHAR') OR coalesce(names_media(json_extract_string(j, '/type')), false);

-- A tool result as one JSON string. Lists of text parts are joined, media stay unchanged, in a list, and anything else is data, whose JSON becomes the text.
CREATE OR REPLACE MACRO shows_media(parts) AS len(list_filter(json_transform(parts, '[{"type":"VARCHAR"}]'), lambda p: names_media(p.type))) > 0;
CREATE OR REPLACE MACRO media_of(output) AS CASE
    WHEN starts_with(output::VARCHAR, '[') AND shows_media(output) THEN output::VARCHAR
    WHEN starts_with(output::VARCHAR, '{') AND names_media(json_extract_string(output, '/type')) THEN concat('[', output, ']')
END;
CREATE OR REPLACE MACRO result_text(output) AS coalesce(media_of(output), CASE
    WHEN NOT coalesce(starts_with(output::VARCHAR, '['), false) THEN scalar_text(output)
    WHEN len(list_filter(part_texts(output), lambda s: NOT coalesce(is_string(s), false))) = 0 THEN joined(part_texts(output), '')
    ELSE to_json(output::VARCHAR)::VARCHAR
END);

-- What DuckDB reads although JSON has none, or other readers refuse it: NaN and Infinity in any case, numbers that no double holds,
-- commas before a closing bracket, a hundred levels at once. Each is looked for outside of strings, which few texts need.
CREATE OR REPLACE MACRO outside_strings(j) AS regexp_replace(j, '"(?:[^"\\]|\\.)*"', '""', 'g');
CREATE OR REPLACE MACRO overflows(bare) AS len(list_filter(
    regexp_extract_all(bare, '[0-9.]+[eE][+]?[0-9]{3,}|[0-9]{300}[0-9.]*(?:[eE][-+]?[0-9]+)?'), lambda n: isinf(TRY_CAST(n AS DOUBLE))
)) > 0;
CREATE OR REPLACE MACRO is_lax(j) AS CASE WHEN regexp_matches(j, '(?i)nan|inf|[0-9]e[+]?[0-9]{3}|[0-9]{20}|(?:[\]}][ \t\r\n]*){20}|,[ \t\r\n]*[\]}]')
    THEN regexp_matches(outside_strings(j), '(?i)nan|inf|(?:[\]}][ \t\r\n]*){100}|,[ \t\r\n]*[\]}]') OR overflows(outside_strings(j)) ELSE false END;

-- JSON text with U+FFFD for halves of surrogate pairs, which are no characters. Escaped backslashes and whole pairs are put aside meanwhile.
CREATE OR REPLACE MACRO without_halves(j) AS replace(replace(regexp_replace(regexp_replace(
    replace(j, '\\', chr(2)), '\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})', chr(1) || '\1' || chr(1) || '\2', 'g'
), '\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '\\ufffd', 'g'), chr(1), '\u'), chr(2), '\\');

-- Arguments of a tool call as a JSON object, or NULL where they are none. A call without arguments is recorded as "" or {}.
CREATE OR REPLACE MACRO arguments_object(arguments) AS CASE
    WHEN arguments IS NULL OR trim(arguments, E' \t\r\n') = '' THEN '{}'
    WHEN starts_with(ltrim(arguments, E' \t\r\n'), '{') AND NOT is_lax(arguments) THEN CASE
        WHEN json_valid(arguments) THEN json(arguments)::VARCHAR
        WHEN regexp_matches(arguments, '\\u[dD][89a-fA-F]') AND json_valid(without_halves(arguments)) THEN json(without_halves(arguments))::VARCHAR
    END
END;

-- A number or a boolean as DOUBLE; NULL for strings and everything else.
CREATE OR REPLACE MACRO to_number(j) AS CASE j
    WHEN 'true' THEN 1.0
    WHEN 'false' THEN 0.0
    ELSE CASE WHEN NOT is_string(j) THEN TRY_CAST(j AS DOUBLE) END
END;

-- Flags are written as booleans, 0/1 or text.
CREATE OR REPLACE MACRO is_true(j) AS coalesce(j::VARCHAR IN ('true', '1', '1.0', '"true"', '"True"'), false);

-- Nothing but white space, in a JSON string and in text. Most texts begin with a word, and are not searched.
CREATE OR REPLACE MACRO is_blank(t) AS CASE WHEN t = '""' OR starts_with(t, '" ') OR starts_with(t, '"\') THEN regexp_full_match(t, '"(?:\\[nrt]| )*"') ELSE false END;
CREATE OR REPLACE MACRO is_blank_text(t) AS CASE WHEN t < '!' THEN regexp_full_match(t, '[ \t\r\n]*') ELSE false END;

-- Whether all of these types are those of texts.
CREATE OR REPLACE MACRO all_texts(types) AS len(list_filter(types, lambda t: t <> 'VARCHAR')) = 0;

-- A value that holds something.
CREATE OR REPLACE MACRO filled(j) AS CASE WHEN j::VARCHAR NOT IN ('null', '[]', '{}') AND NOT is_blank(j::VARCHAR) THEN j::VARCHAR END;

-- An error that happened: `"error": false` says that there was none.
CREATE OR REPLACE MACRO names_error(j) AS coalesce(filled(j) NOT IN ('false', '0'), false);
