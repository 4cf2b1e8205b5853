"""Presets that repeat published corpora: valid over config.yaml, true to their papers, and able to read their files.

The files are too big to fetch in a test, so a server on this machine has small ones of exactly their layout: the
same addresses, compression, records and columns.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pileline import manifest, models, parts, sources
from pileline.config import Config, check
from pileline.models.transformer import Decoder, Shape, Transformer
from pileline.report.read import KINDS
from pileline.sources import Reading, SourceError
from pileline.sources.http import Patience
from pileline.training import derived
from pileline.training.settings import Plan
from snakemake.utils import update_config

from tests.conftest import default_config
from tests.unit.file_server import Files, serve
from tests.unit.hub_server import Hub
from tests.unit.hub_server import download as download_from_hub

ROOT = Path(__file__).parents[2]
PRESETS = ["pile", "slimpajama", "fineweb-edu", "gpt2-124m", "tiny-shakespeare", "theory-to-practice"]
SOON = Patience(attempts=6, first_wait=0.01, longest_wait=0.05)
HUB = "https://huggingface.co"
# Table 1 of the paper: each component's name in the records, and its epochs.
PILE_TABLE = """
    Pile-CC 1.0, PubMed Central 2.0, Books3 1.5, OpenWebText2 2.0, ArXiv 2.0, Github 1.0, FreeLaw 1.5,
    StackExchange 2.0, USPTO Backgrounds 2.0, PubMed Abstracts 2.0, Gutenberg (PG-19) 2.5, OpenSubtitles 1.5,
    Wikipedia (en) 3.0, DM Mathematics 2.0, Ubuntu IRC 2.0, BookCorpus2 1.5, EuroParl 2.0, HackerNews 2.0,
    YoutubeSubtitles 2.0, PhilPapers 2.0, NIH ExPorter 2.0, Enron Emails 2.0"""
PILE = {name: float(epochs) for name, _, epochs in (row.strip().rpartition(" ") for row in PILE_TABLE.split(","))}
COPYRIGHTED = {"Books3", "BookCorpus2", "OpenSubtitles", "YoutubeSubtitles", "OpenWebText2"}
SLIMPAJAMA = [
    f"RedPajama{name}" for name in ("CommonCrawl", "C4", "Github", "Book", "ArXiv", "Wikipedia", "StackExchange")
]


def settings(preset: str) -> dict[str, Any]:
    """The preset over config.yaml, as Snakemake lays it."""
    merged = default_config()
    update_config(merged, yaml.safe_load((ROOT / f"workflow/presets/{preset}.yaml").read_text(encoding="utf-8")))
    return merged


def used(preset: str) -> Config:
    return check(settings(preset))


def where(config: Config, source: str) -> str:
    """The value that selects a source's records."""
    (value,) = config.part("sources", source)["read"]["where"].values()
    return str(value)


def weights(config: Config, corpus: str) -> dict[str, float]:
    """What a corpus takes of each source, by the value that selects its records."""
    return {where(config, source): part["weight"] for source, part in config.part("corpora", corpus)["mix"].items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_valid_over_the_default_and_leaves_nothing_of_its_run(preset: str) -> None:
    config = used(preset)
    own = yaml.safe_load((ROOT / f"workflow/presets/{preset}.yaml").read_text(encoding="utf-8"))
    assert config.settings["tasks"] == {}
    assert set(config.used()["sources"]) <= set(own["sources"])
    assert {experiment.corpus for experiment in config.experiments} == {config.settings["evaluation"]["holdout"]}
    assert all(len(line) <= 120 for line in (ROOT / f"workflow/presets/{preset}.yaml").read_text().splitlines())


@pytest.mark.parametrize("preset", PRESETS)
def test_no_source_of_a_preset_hides_one_of_the_default(preset: str) -> None:
    default = default_config()
    own = yaml.safe_load((ROOT / f"workflow/presets/{preset}.yaml").read_text(encoding="utf-8"))
    assert not set(own["sources"]) & set(default["sources"])


def test_the_pile_has_the_papers_components_and_epochs() -> None:
    config = used("pile")
    assert len(PILE) == 22
    assert weights(config, "pile") == PILE
    free = {name: weight for name, weight in PILE.items() if name not in COPYRIGHTED}
    assert weights(config, "pile-uncopyrighted") == free
    assert {config.part("sources", source)["parts"] for source in config.part("corpora", "pile")["mix"]} == {30}


def test_slimpajama_has_seven_sets_and_the_papers_bands() -> None:
    config = used("slimpajama")
    corpus = config.part("corpora", "slimpajama")
    assert weights(config, "slimpajama") == dict.fromkeys(SLIMPAJAMA, 1.0)
    method = config.part("deduplications", corpus["deduplication"])
    assert (method["shingle"], method["bands"], method["rows"], method["threshold"]) == (13, 9, 13, 0.8)


# ------------------------------------------------------------------------------------------- files of their layout
def zstd(lines: list[dict[str, Any]]) -> bytes:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    return bytes(sink.getvalue())


def prose(generator: random.Random) -> str:
    words = ("history", "of", "the", "model", "naïve", "語", "court", "finds", "x = y\n\nz")
    return " ".join(generator.choice(words) for _ in range(generator.randint(1, 60)))


def pile_files(root: str) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    """The 30 files by address, and each component's texts in their order."""
    generator, texts = random.Random(1), {name: [] for name in PILE}
    made: dict[str, bytes] = {}
    for number in range(30):
        records = []
        for _ in range(40):
            name = generator.choice(list(PILE))
            texts[name].append(prose(generator))
            records.append({"text": texts[name][-1], "meta": {"pile_set_name": name}})
        made[f"{root}/{number:02}.jsonl.zst"] = zstd(records)
    return made, texts


def fetch(source: str, origin: dict[str, Any], folder: Path, number: int) -> sources.Raw:
    """Download all parts of a source, as the line does, and put them together."""
    for part in parts.names(number):
        output = folder / source / part
        output.mkdir(parents=True)
        metrics = sources.download(source, origin, folder / "cache", output, patience=SOON, part=part)
        manifest.write(output, "download", metrics, sources.written(metrics))
    return sources.read_raw(folder / source, number)


def texts_of(raw: sources.Raw, reading: dict[str, Any], number: int = 1) -> list[str]:
    """The texts of a source, as its parts extract them, put in the order of their files."""
    found = [
        document
        for name in parts.names(number)
        for document in sources.extract(raw, Reading.from_dict(reading), parts.Part.parse(name))
    ]
    assert not [document for document in found if document.reason]
    order = {Path(file["path"]).name: file["number"] for file in raw.files}

    def place(document: sources.Extracted) -> tuple[int, int]:
        member, _, position = document.id.rpartition("#")
        return order[member.rpartition("/")[2]], int(position)

    return [document.text for document in sorted(found, key=place)]


@pytest.fixture(scope="module")
def pile() -> Iterator[tuple[Files, dict[str, list[str]]]]:
    made, texts = pile_files("/datasets/monology/pile-uncopyrighted/resolve/main/train")
    with serve(Files(made), Hub) as files:
        yield files, texts


def origin_of(config: Config, source: str, server: str) -> dict[str, Any]:
    """The origin that the source's stage gets, its hub on this machine."""
    origin = copy.deepcopy(config.slice("download", source=source, part="1-of-1")["origin"])
    assert origin["http"].startswith(HUB)
    return origin | {"http": origin["http"].replace(HUB, server)}


def test_every_component_of_the_pile_reads_its_own_records(
    pile: tuple[Files, dict[str, list[str]]], tmp_path: Path
) -> None:
    config, (files, texts) = used("pile"), pile
    files.asked.clear()
    for source in config.part("corpora", "pile")["mix"]:
        raw = fetch(source, origin_of(config, source, files.url), tmp_path, 1)
        assert len(raw.files) == 30
        reading = config.slice("clean", recipe="none", source=source, part="1-of-1")["reading"]
        assert texts_of(raw, reading) == texts[where(config, source)]
    assert len(files.asked) == 30, "the sources share one download"


def test_the_pile_arrives_whole_over_a_bad_network_in_thirty_parts(
    pile: tuple[Files, dict[str, list[str]]], tmp_path: Path
) -> None:
    config, (files, texts) = used("pile"), pile
    generator = random.Random(2)
    for address in files.content:
        faults: list[Any] = [429, 500, 503, ("drop", 700), ("drop", 0)]
        files.faults[address] = generator.sample(faults, 3)
    files.headers = {"Retry-After": "0"}
    raw = fetch("pile-cc", origin_of(config, "pile-cc", files.url), tmp_path, 30)
    assert not any(files.faults.values()), "every fault was met"
    assert texts_of(raw, config.part("sources", "pile-cc")["read"], 30) == texts["Pile-CC"]


def test_a_truncated_file_of_the_pile_is_refused_when_it_is_read(
    pile: tuple[Files, dict[str, list[str]]], tmp_path: Path
) -> None:
    config, (files, _) = used("pile"), pile
    address = next(address for address in files.content if address.endswith("/07.jsonl.zst"))
    whole = files.content[address]
    files.content[address] = whole[: len(whole) // 2]
    try:
        raw = fetch("pile-cc", origin_of(config, "pile-cc", files.url), tmp_path, 1)
    finally:
        files.content[address] = whole
    with pytest.raises(SourceError, match=r"07\.jsonl\.zst: damaged") as error:
        texts_of(raw, config.part("sources", "pile-cc")["read"])
    assert "fetch" in str(error.value)


def test_a_pinned_file_of_the_pile_is_refused_when_it_is_wrong(
    pile: tuple[Files, dict[str, list[str]]], tmp_path: Path
) -> None:
    config, (files, _) = used("pile"), pile
    pinned = origin_of(config, "pile-cc", files.url) | {"sha256": {"07.jsonl.zst": "0" * 64}}
    with pytest.raises(SourceError, match=r"07\.jsonl\.zst: wrong content"):
        fetch("pile-cc", pinned, tmp_path, 1)


def test_every_set_of_slimpajama_reads_its_own_records_from_the_hub(tmp_path: Path) -> None:
    config, generator = used("slimpajama"), random.Random(3)
    texts: dict[str, list[str]] = {name: [] for name in SLIMPAJAMA}
    made = {}
    for chunk in range(1, 11):
        for file in range(2):
            records = []
            for name in generator.choices(SLIMPAJAMA, k=12):
                records.append({"text": prose(generator), "meta": {"redpajama_set_name": name}})
                texts[name].append(records[-1]["text"])
            path = f"train/chunk{chunk}/example_train_{2 * chunk + file + 100}.jsonl.zst"
            made[f"/datasets/cerebras/SlimPajama-627B/resolve/main/{path}"] = zstd(records)
    origin = config.slice("download", source="slim-c4", part="1-of-1")["origin"]
    with serve(Files(made), Hub) as hub:
        for part in parts.names(2):
            ran = download_from_hub(hub, tmp_path, origin, part, "slim")
            assert ran.returncode == 0, ran.stderr
    raw = sources.read_raw(tmp_path / "raw", 2)
    assert len(raw.files) == 20
    for source in config.part("corpora", "slimpajama")["mix"]:
        assert texts_of(raw, config.part("sources", source)["read"], 3) == texts[where(config, source)]


def test_fineweb_edu_reads_its_parquet_with_what_stands_beside_the_text(tmp_path: Path) -> None:
    config, generator = used("fineweb-edu"), random.Random(4)
    made, rows = {}, []
    for number in range(14):
        part = [
            {
                "text": prose(generator),
                "id": f"<urn:uuid:{number}-{row}>",
                "dump": "CC-MAIN-2024-10",
                "url": f"https://example.org/{number}/{row}",
                "file_path": "s3://commoncrawl/x.warc.gz",
                "language": "en",
                "language_score": generator.random(),
                "token_count": 7,
                "score": generator.random() * 5,
                "int_score": 3,
            }
            for row in range(20)
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(part), sink, row_group_size=7)
        made[f"/datasets/HuggingFaceFW/fineweb-edu/resolve/main/sample/10BT/{number:03}_00000.parquet"] = bytes(
            sink.getvalue()
        )
        rows += part
    with serve(Files(made)) as files:
        raw = fetch("fineweb-edu", origin_of(config, "fineweb-edu", files.url), tmp_path, 14)
    reading = config.part("sources", "fineweb-edu")["read"]
    assert texts_of(raw, reading, 14) == [row["text"] for row in rows]
    beside = [json.loads(document.metadata) for document in sources.extract(raw, Reading.from_dict(reading))]
    assert beside == [{key: row[key] for key in ("id", "dump", "url", "language_score", "score")} for row in rows]


# ------------------------------------------------------------------------------------------ a model's recipe


def test_gpt2_124m_is_that_size_and_sees_ten_billion_tokens_in_batches_of_half_a_million() -> None:
    settings = used("gpt2-124m").part("models", "gpt2-124m")
    own = {name: settings[name] for name in Transformer.setting_names() & set(settings)}
    with torch.device("meta"):
        network = Decoder(Shape(**own), used("gpt2-124m").part("tokenizers", "bpe50k")["vocabulary"], 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(124e6, rel=0.01)
    plan = Plan.of({key: value for key, value in settings.items() if key not in ("device", "threads")}, set(own))
    rows, rest = divmod(plan.batch_tokens or 0, settings["context"])
    assert (rows, rest) == (512, 0)
    settled = derived.settle(plan, rows * settings["context"], epoch_steps=1)
    assert settled.steps == 19073
    assert (settled.precision, settled.compile) == ("bfloat16", True)
    for processes in (1, 2, 4, 8):  # as the preset says: each has as many sequences at a time
        assert plan.accumulate % processes == 0 == rows % processes


def test_gpt2_124m_has_the_data_of_fineweb_edu() -> None:
    recipe, corpus = settings("gpt2-124m"), settings("fineweb-edu")
    for part in ("holdout", "evaluation"):
        assert recipe[part] == corpus[part]
    for part in ("sources", "corpora"):
        assert recipe[part]["fineweb-edu"] == corpus[part]["fineweb-edu"]


# ----------------------------------------------------------------------------------------- from theory to practice
def learns(model: str) -> tuple[str, float, str, int]:
    """How a model of theory-to-practice learns: optimizer, rate, schedule, rows of a step."""
    entry = used("theory-to-practice").part("models", model)
    return entry["optimizer"], entry["rate"], entry["schedule"], entry["batch_tokens"] // entry["context"]


def test_theory_to_practice_tells_every_kind_on_the_text_of_tiny_shakespeare() -> None:
    config = used("theory-to-practice")
    told = [config.part("models", experiment.model) for experiment in config.experiments]
    assert list(dict.fromkeys(entry["kind"] for entry in told)) == list(KINDS)
    assert [entry["order"] for entry in told if entry["kind"] == "ngram"] == [1, 2, 3, 5]
    recipe, other = settings("theory-to-practice"), settings("tiny-shakespeare")
    for part in ("holdout", "tokenizers", "evaluation"):
        assert recipe[part] == other[part]
    for part in ("sources", "corpora"):
        assert recipe[part]["tiny-shakespeare"] == other[part]["tiny-shakespeare"]


def test_theory_to_practice_has_the_classic_recipes() -> None:
    entries = used("theory-to-practice").settings["models"]
    assert learns("mlp")[0] == "sgd", "plain gradient descent, as in 2003"
    changed = {key for key in entries["mlp"] if entries["mlp"][key] != entries["mlp-squared-error"][key]}
    assert changed == {"loss", "rate"}, "a squared error's slopes are small: its own rate, all else alike"
    lstm, base = entries["lstm"], entries["transformer-2017"]
    gates = 4 * 128 * (64 + 128 + 2)  # two biases each, as torch has them
    assert models.build(lstm, 300, 0, 1).parameters_count == 64 * 300 + gates + 129 * 300
    assert learns("lstm") == ("adam", 0.001, "constant", 32)
    assert (lstm["epochs"], lstm["warmup"], lstm["dropout"]) == (10, 0, 0)
    assert (base["layers"], base["heads"], base["width"], base["mlp"] * base["width"]) == (6, 8, 512, 2048)
    assert learns("transformer-2017")[:2] == ("adam", 0.001)
