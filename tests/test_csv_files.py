"""Files of strangers: read for what they say, or refused in one sentence; assumptions are said."""

import csv
import json
import tracemalloc

import numpy as np
import pytest

from dft_lib import cli
from dft_lib.fairness import floors, report
from dft_lib.fairness.counts import read_counts
from dft_lib.fairness.files.names import unnamed_total
from dft_lib.fairness.files.reading import split_names, visible

GROUPS = ("--groups", "woman,man", "--by", "job")
HEADER = "job,woman,man\n"


@pytest.fixture
def found(tmp_path, capsys):
    """Return a function: text (or bytes) and options -> the JSON of ``dft fairness``."""

    def run(text, *options):
        path = tmp_path / "file.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        cli.main(["fairness", str(path), "--json", "--draws", "100", *(options or GROUPS)])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def refused(tmp_path):
    """Return a function: text (or bytes) and options -> the sentence that it ends in."""

    def run(text, *options):
        path = tmp_path / "file.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SystemExit) as stopped:
            cli.main(["fairness", str(path), "--draws", "100", *(options or GROUPS)])
        message = str(stopped.value)
        assert message.startswith("dft fairness: ") and "\n" not in message and len(message) < 1500
        return message

    return run


def gap(result):
    return result["per_prompt"]["parity_gap"]["value"]


def said(result, *words):
    return any(all(word in note for word in words) for note in result["notes"])


# --- how numbers are written -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("job;woman;man\na;1.250.000;3.500\nb;12;3\n", [15, 1253500]),
        ("job;woman;man\na;1.500,0;2.500,0\nb;30,0;10,0\n", [40, 4000]),
        ('job,woman,man\na,"1,250,000","3,500"\nb,12,3\n', [15, 1253500]),
        ('job,woman,man\na,"3,500.0","1,500.0"\nb,12,3\n', [15, 5000]),
        ("job;woman;man\na;1'500;2\u2019500\nb;12;3\n", [15, 4000]),
        ("job;woman;man\na;1\u2009500;2\u00a0500\nb;12\u202f000;3 000\n", [4000, 15000]),
        ("job;woman;man\na;3.000;2500.000\nb;12.000;3.000\n", [15, 2503]),  # points of decimals
        (HEADER + "a,1e3,500\nb,12.0,3.0\n", [15, 1500]),
    ],
)
def test_marks_in_numbers(found, text, images):
    assert found(text)["images"] == images


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("job;woman;man\na;3.000;7.000\nb;60.000;40.000\n", "'3.000' can be 3000"),
        (HEADER + "a,5.000,240\nb,12,238\n", "'5.000' can be 5000"),
        (HEADER + 'a,"2,500",240\n', "'2,500' can be 2500"),
        (HEADER + 'a,0.5,"0,5"\n', "do not go together"),
        (HEADER + 'a,1.250.000,30\nb,2.5,3\n', "before decimals"),
        (HEADER + 'a,"1,2,3",5\nb,"1,250,000",3\n', "'1,2,3' is no number"),
        ("job;woman;man\na;1.250.00;5\n", "'1.250.00' is no number"),
        (HEADER + "a,1_000,5\n", "'1_000' is no count"),
        (HEADER + "a,\u0661\u0662,5\n", "is no count"),
        (HEADER + "a,-0.5,1.5\n", "-0.5 is negative"),
    ],
)  # fmt: skip
def test_marks_that_can_mean_two_things(refused, text, sentence):
    assert sentence in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "job;woman;man\na;0,75;0,25\nb;0,10;0,90\n",
        HEADER + 'a,"0,75","0,25"\nb,"0,10","0,90"\n',
        HEADER + "a,0.750,0.250\nb,0.100,0.900\n",
        HEADER + "a,75%,25%\nb,10 %,90 %\n",
        "job;woman;man\na;75,0 %;25,0 %\nb;10,0 %;90,0 %\n",
        HEADER + "a,75.0,25.0\nb,10.0,90.0\n",
        HEADER + "a,75.04,24.92\nb,10,90\n",  # rounded: 99.96
    ],
)
def test_shares_and_percentages(found, text):
    result = found(text)
    assert gap(result) == pytest.approx(0.65, abs=2e-3) and result["images"] is None
    assert said(result, "shares of an unknown number of images")
    assert said(result, "read as percentages") == ("75.0" in text)
    of_images = found(text, *GROUPS, "--images", "400")
    assert of_images["images"] == [400, 400] and gap(of_images) == pytest.approx(0.65, abs=4e-3)


def test_whole_percentages_are_said_to_be_counts(found):
    text = HEADER + "a,97,3\nb,2,98\nc,52,48\n"
    counted = found(text)
    assert counted["images"] == [100, 100] and said(counted, "about 100", "--images")
    assert found(text, *GROUPS, "--images", "1000")["images"] == [1000, 1000]
    signed = found(HEADER + "a,97%,3%\nb,2%,98%\nc,52%,48%\n")
    assert gap(signed) == gap(counted) and signed["images"] is None
    assert not said(found(HEADER + "a,97,3\nb,2,108\n"), "about 100")


def test_rest_of_percentages(found, refused):
    options = ("--groups", "man", "--rest", "woman", "--by", "job")
    assert gap(found("job,man\na,75%\nb,10%\n", *options)) == pytest.approx(0.65)
    assert "percent sign" in refused("job,man\na,75.5\nb,10\n", *options)
    part = found("job,man,unclear\na,0.6,0.2\nb,0.1,0\n", *options)
    assert part["shares"] == pytest.approx([(0.75 + 0.1) / 2, (0.25 + 0.9) / 2], abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("a,75%,35%\nb,10%,90%\n", "percentages of this row sum to 110"),
        ("a,75%,25\nb,10%,90%\n", "'25' has no percent sign"),
        ("a,75.5,24.5\nb,.1,.9\n", "neither a whole count nor a share"),
        ("a,.6,.4\nb,.5,.3\n", "line 3, column 'woman': 0.5 is neither"),
        ("a,.6,.4\nb,5,3\n", "line 3: its groups sum to 8"),
        ("a,2.5,7.5\nb,1,3\n", "neither a whole count"),
    ],
)
def test_rows_that_are_neither(refused, rows, sentence):
    assert sentence in refused(HEADER + rows)


def test_shares_that_are_all_or_none(found):
    marked = found(HEADER + "a,1.0,0.0\nb,0.0,1.0\n")
    assert marked["images"] is None and marked["per_prompt"]["parity_gap"]["noise_floor"] is None
    bare = found(HEADER + "a,1,0\nb,0,1\n")
    assert bare["images"] == [1, 1] and said(bare, "one image", "--images")
    assert found(HEADER + "a,1,0\nb,0,1\n", *GROUPS, "--images", "60")["images"] == [60, 60]
    hundred = found(HEADER + "a,100.0,0.0\nb,0.0,100.0\n")
    assert hundred["images"] is None and said(hundred, "read as percentages")


def test_true_and_false_are_images(found, refused):
    rows = "a,True,False\na,FALSE,TRUE\na,yes,no\nb,false,true\nb,False,False\n"
    result = found(HEADER + rows)
    assert result["images"] == [1, 3] and said(result, "true and false")
    assert gap(result) == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert "two groups" in refused(HEADER + "a,True,True\n")
    one = found("job,woman\na,True\na,False\nb,False\n", "--groups", "woman", "--rest", "man",
                "--by", "job")  # fmt: skip
    assert one["images"] == [1, 2] and one["shares"] == pytest.approx([1 / 3, 2 / 3], abs=1e-6)


# --- images without an answer, totals --------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["except", "No Face", "NO_FACE", "no-person", "Unclear", "N/A", "not detected", "other"],
)
def test_images_without_an_answer_are_said(found, name):
    result = found(f"job,woman,man,{name}\na,7,3,2\nb,1,9,3\n")
    assert said(result, "not among the groups", f"{name} 5 images")
    of_shares = found(f"job,woman,man,{name}\na,.5,.3,.2\nb,.1,.9,0\n")
    assert said(of_shares, f"{name} 0.1 of all") and of_shares["images"] is None
    assert gap(of_shares) == pytest.approx((0.25 + 0.8) / 2)
    of_images = found(f"job,woman,man,{name}\na,.5,.3,.2\nb,.1,.9,0\n", *GROUPS, "--images", "50")
    assert of_images["images"] == [40, 50] and said(of_images, f"{name} 10 images")


def test_several_columns_without_an_answer(found):
    result = found("job,woman,man,Unclear,no face,error\na,7,3,2,1,timeout\nb,1,9,3,0,\n")
    assert said(result, "Unclear 5, no face 1 images") and not said(result, "error")
    prefixed = found(
        "job,g:woman,g:man,g:unclear,t:unclear\na,7,3,2,9\nb,1,9,3,9\n",
        "--groups", "g:woman,g:man", "--by", "job",
    )  # fmt: skip
    assert said(prefixed, "g:unclear 5 images") and not said(prefixed, "t:unclear")


def test_a_column_of_all_images_tells_what_is_missing(found):
    result = found("job,woman,man,total\na,7,3,12\nb,1,9,11\n")
    assert said(result, "'total' beyond the groups 3 images")
    assert not said(found("job,woman,man,total\na,7,3,10\nb,1,9,10\n"), "beyond")
    assert not said(found("job,woman,man,n\na,7,3,0\nb,1,9,90\n"), "beyond")  # some other number


JOBS = "nurse,8,2\npilot,1,9\ncook,6,4\n"


@pytest.mark.parametrize(
    "name", ["Total", "TOTAL:", "sum", "All", "(all)", "Gesamt", "Summe", "Grand total", "\u03a3"]
)
def test_a_total_is_no_prompt(refused, name):
    for rows in (JOBS + f"{name},15,15\n", f"{name},15,15\n" + JOBS):
        assert "looks like a total" in refused(HEADER + rows)
    assert "looks like a total" in refused(HEADER + f"a,.9,.1\nb,.2,.8\n{name},.55,.45\n")


def test_totals_per_seed_by_no_name_and_of_groups(found, refused):
    options = (*GROUPS, "--seeds", "seed")
    rows = "".join(f"a,{s},8,2\nb,{s},1,9\nc,{s},3,{s}\nX,{s},12,{11 + s}\n" for s in (1, 2))
    assert "line 5" in refused("job,seed,woman,man\n" + rows.replace("X", "total"), *options)
    assert said(found("job,seed,woman,man\n" + rows, *options), "'X' is the sum of all other")
    assert said(found("job,seed,woman,man\n" + rows), "'X' is the sum of all other")
    assert "line 4, column 'seed'" in refused(
        "job,seed,woman,man\na,1,8,2\na,2,1,9\na,mean,4,5\n", *options
    )
    assert "the mean of the other" in refused(HEADER + "a,.9,.1\nb,.2,.8\nMean,.55,.45\n")
    assert found(HEADER + "mean,.9,.1\nkind,.2,.8\nhappy,.5,.5\n")["prompts"] == 3
    assert found(HEADER + JOBS + "Total,15,15\n", *GROUPS, "--where", "job=Total")["prompts"] == 1
    assert "leave it out of --groups" in refused(
        "job,woman,man,total\na,8,2,10\nb,1,9,10\n", "--groups", "woman,man,total", "--by", "job"
    )
    assert unnamed_total(np.array([[[4, 4]], [[4, 4]]])) is None  # two that agree


# --- separators, quotes, encodings -----------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ":", "^", " "])
def test_excels_first_line_names_the_separator(found, separator):
    text = (HEADER + "a,7,3\nb,1,9\n").replace(",", separator)
    for first in (f"sep={separator}\n", f'"SEP={separator}"\r\n', f"\ufeffsep={separator}\n"):
        assert gap(found(first + text)) == pytest.approx(0.6)
    if separator not in ":^ ":
        assert gap(found(text)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sep=\njob;woman;man\na;7;3\n", "names no separator"),
        ("sep=;;\njob;woman;man\na;7;3\n", "names no separator"),
        ("sep=;\n", "is empty"),
        ("sep=;\njob;woman;man\na;7;x\n", "line 3, column 'man'"),  # lines as an editor counts
        ("My study\n\njob,woman,man\na,7,3\n", "line 3 is the header"),
        ("# by me, 2026\njob,woman,man\na,7,3\n", "line 2 is the header"),
        ("job:woman:man\na:7:3\n", "separated by comma, semicolon, tab"),
        (HEADER.encode("utf-16") + b"a", "is UTF-16"),
        ((HEADER + "a,7,3\n").encode("utf-16-le"), "zero bytes"),
        (b"PK\x03\x04 and more", "is a spreadsheet"),
        (b"\x1f\x8b and more", "is a gzip archive"),
        ('job,woman,man,note\na,7,3,"x\nb,1,9,y\nc,5,5,z"\nd,1,2,w\n', "may be rows"),
        ('job,woman,man,note\na,7,3,"x\nb,1,9",\nd,1,2,w\n', "may be rows"),
        ('note,job,woman,man\n"x,a,7,3\n"y,b,1,9\n', "mend the quotes"),
        ('job,woman,"man\na,7,3\nb,1,9\n', "mend the quotes"),
        (HEADER + "a,7,3,5\n", "4 cells for 3 columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_rightly_is_refused(refused, text, sentence):
    assert sentence in refused(text)


def test_what_only_looks_odd_is_read(found):
    for text in (
        'job,woman,man,note\na,7,3,"two\nlines, yes"\nb,1,9,\n',
        'job,woman,man,"number\nof images"\na,7,3,10\nb,1,9,10\n',
        'job, "woman", "man"\n"a, head", "7", "3"\nb,1,9\n',
        "job,woman,man\ra,7,3\rb,1,9\r",
        "\ufeff\ufeffjob,woman,man\na,7,3\nb,1,9\n",
        f"job,woman,man,{'x' * 150_000}\na,7,3,\nb,1,9,\n",
        f"job,woman,man,t\na,7,3,{'y' * 150_000}\nb,1,9,\n",
        "job,woman,man,\na,7,3,\nb,1,9\n\n",
    ):
        assert gap(found(text)) == pytest.approx(0.6), text[:40]
    assert csv.field_size_limit() == 131_072  # as every other module knows it


def test_names_that_look_alike_are_alike(found):
    result = found("me\u0301tier,woman,man\ndata\u00a0entry,7,3\ndata  entry,1,9\n",
                   "--groups", "woman,man", "--by", "m\u00e9tier")  # fmt: skip
    assert result["prompts"] == 1 and result["shares"] == [0.4, 0.6]


EAST = 'job,"Asian, East","Asian, South",Black\na,6,2,2\nb,1,8,1\n'


def test_groups_with_a_comma(found, refused):
    names = '"Asian, East", "Asian, South",Black'
    result = found(
        EAST, "--groups", names, "--by", "job", "--delta-group", '"Asian, South"',
        "--target", '"Asian, East"=.5,"Asian, South=.25",Black=.25',
    )  # fmt: skip
    assert result["groups"] == ["Asian, East", "Asian, South", "Black"]
    assert result["target"] == [0.5, 0.25, 0.25]
    assert result["per_prompt"]["delta"]["value"] == pytest.approx((0.2 + 2.2) / 2)
    assert "is quoted" in refused(EAST, "--groups", "Asian, East,Black", "--by", "job")
    assert "not closed" in refused(EAST, "--groups", '"Asian, East,Black', "--by", "job")
    assert split_names('a, "b, c","d"') == ["a", "b, c", "d"]


# --- what reaches a terminal -----------------------------------------------------------------


def test_no_control_character_reaches_the_terminal(refused, tmp_path, capsys):
    red, clear = "\x1b[31m", "\x9b2J"
    message = refused(f"job,woman,{red}man,{clear},\u202etxt\na,7,3,,\n")
    assert "\\x1b[31mman" in message and message.isprintable()
    assert refused(f"job,woman,man\na,{red}7,3\n").isprintable()
    path = tmp_path / "ansi.csv"
    path.write_text(f"job,woman,{red}man,{red}x\n{clear}a,1,2,\nb,3,3,\nc,4,5,\n")
    cli.main(["fairness", str(path), "--groups", f"woman,{red}man", "--by", "job"])
    shown = capsys.readouterr().out
    assert "\\x1b[31mman 0.556" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert (
        visible("caf\u00e9 \u0645\u06cc\u200c\u062e \u5973")
        == "caf\u00e9 \u0645\u06cc\u200c\u062e \u5973"
    )


def test_a_long_header_gives_a_short_sentence(refused):
    many = "job,woman," + ",".join(f"c{i}" for i in range(4000)) + "\na,7,3\n"
    assert "and 3982 more" in refused(many)
    assert "xxx..." in refused(f"job,woman,{'x' * 150_000}\na,7,3\n")


# --- a row for each image --------------------------------------------------------------------

BY = ("--groups", "woman,man", "--by", "prompt")
IMAGES = "file,prompt,gender,skin\n" + "".join(
    f"{i}.png,{row}\n"
    for i, row in enumerate(
        ["nurse,woman,dark", "nurse,woman,light", "nurse,man,light", "pilot,man,dark",
         "pilot,unclear,dark", "pilot,,light", "pilot,man,light"]
    )
)  # fmt: skip


def test_rows_of_images_are_counted(found):
    result = found(IMAGES, *BY)
    assert result["images"] == [2, 3] and gap(result) == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert said(result, "one row for each image", "'gender'")
    assert said(result, "unclear 1, (empty) 1 images")
    tones = found(IMAGES, "--groups", "dark,medium,light", "--by", "prompt")
    assert tones["shares"] == pytest.approx([3 / 7, 0, 4 / 7], abs=1e-6)
    seeds = found(
        "prompt,seed,gender\na,0,woman\na,0,woman\na,1,man\nb,0,man\nb,1,man\n",
        *BY, "--seeds", "seed",
    )  # fmt: skip
    assert seeds["seeds"] == 2 and seeds["rows"] == 5
    flags = found("prompt,is_woman\na,True\na,False\na,False\nb,False\n",
                  "--groups", "True,False", "--by", "prompt")  # fmt: skip
    assert flags["shares"] == [0.25, 0.75]


def test_the_answer_is_chosen_where_several_columns_could_be_it(found, refused):
    text = "prompt,asked,perceived\na,woman,man\na,woman,woman\na,man,man\nb,man,man\nb,man,man\n"
    assert "(asked, perceived): choose with --answer" in refused(text, *BY)
    assert found(text, *BY, "--answer", "perceived")["shares"] == [0.2, 0.8]
    assert found(text, *BY, "--answer", "asked")["shares"] == [0.4, 0.6]
    assert "no column 'percieved' (did you" in refused(text, *BY, "--answer", "percieved")
    assert "holds none of" in refused(text, *BY, "--answer", "prompt")


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (IMAGES, ("--groups", "Woman,Man", "--by", "prompt"), "letter by letter"),
        (IMAGES.replace("2.png,nurse,man", "2.png,nurse,Man"), BY, "'Man' beside 'man'"),
        (IMAGES, (*BY, "--images", "9"), "--images are for shares"),
        (IMAGES, (*BY, "--rest", "x"), "--images are for shares"),
        (IMAGES, ("--groups", "old,young", "--by", "prompt"), "has no column 'old'"),
        ("prompt,gender,count\na,woman,9\na,man,1\nb,woman,2\n", BY, "in 'count': give every"),
        ("prompt,gender,x\na,woman,9\na,man,1\nb,woman,2\n", BY, "--answer COLUMN"),
        ("prompt,gender,share\na,woman,.9\na,man,.1\n", (*BY, "--answer", "gender"), "pivot"),
    ],
)  # fmt: skip
def test_rows_that_are_no_images(refused, text, options, sentence):
    assert sentence in refused(text, *options)


# --- memory, and numbers that do not move ----------------------------------------------------


def test_a_table_of_mostly_empty_cells_is_not_built(tmp_path):
    path = tmp_path / "many.csv"
    rows = "".join(f"p{i},s{i},1,2\n" for i in range(4000))  # 32 million cells, were they built
    path.write_text("job,seed,woman,man\n" + rows)
    with pytest.raises(ValueError, match="leave out --seeds"):
        read_counts(path, ["woman", "man"], "job", seeds="seed")
    assert read_counts(path, ["woman", "man"], "job").values.shape == (4000, 1, 2)


def test_the_bootstrap_of_many_seeds_is_drawn_in_parts():
    tracemalloc.start()
    drawn = report._resampled_counts(np.ones((2, 10_000, 10)), True, 600, 0)  # 480 MB at once
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6 and drawn.shape == (600, 10)
    assert (drawn == drawn[0]).all()  # all alike, so resamples are


def test_studies_in_parts_are_the_same_studies():
    images, target = np.arange(1, 3001), np.array([0.2, 0.3, 0.5])
    parts = list(floors.fair_studies(images, target, draws=250, seed=3))
    whole = np.random.default_rng(3).multinomial(images, target, size=(250, 3000))
    assert len(parts) > 1 and max(part.size for part in parts) <= 2_000_000
    assert np.array_equal(np.concatenate(parts), whole)


def test_numbers_of_ordinary_files_stay_what_they_were(tmp_path, capsys):
    """As computed before bootstrap and simulation were cut into parts: to the sixth decimal."""
    path = tmp_path / "pinned.csv"
    path.write_text(
        "job;seed;a;b;c\nx;0;9;1;4\nx;1;1;9;4\ny;0;5;5;0\ny;1;5;6;1\nz;0;2;3;9\nz;1;3;3;7\n"
        "u;0;4;4;4\nu;1;6;1;1\nv;0;0;8;3\nv;1;2;9;0\n"
    )
    cli.main(["fairness", str(path), "--groups", "a,b,c", "--by", "job", "--seeds", "seed",
              "--json"])  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    for part, name, *numbers in (
        ("per_prompt", "parity_gap", 0.335845, 0.209524, 0.444489, 0.188642),
        ("per_prompt", "parity_gap_corrected", 0.352632, 0.209498, 0.470976, 0.052645),
        ("pooled", "parity_gap", 0.089636, 0.021858, 0.345679, 0.059821),
        ("pooled", "kl_divergence", 0.014345, 0.000942, 0.239545, 0.008478),
    ):
        entry = result[part][name]
        wanted = dict(zip(("value", "low", "high", "noise_floor"), numbers, strict=True))
        assert entry == pytest.approx(wanted, abs=1.5e-6), (part, name)
