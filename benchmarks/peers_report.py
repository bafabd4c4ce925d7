"""From what the sittings measured to rows, ratios and the table of docs/peers.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers_turns import FLOWPOSE, WHOLE, Seat

SAME = 0.02  # relative difference of a network's result in two fp32 backends; above it they do not compute the same
FAR = (
    1.5  # a whole frame and its networks' times that are further apart than this factor contradict each other
)
Row = dict[str, Any]


def flowpose_rows(seats: Iterable[tuple[int, Seat]]) -> list[Row]:
    """A row of each `precision backend` of flowpose in each sitting; `beside_whole_ms` has a list a round."""
    return [
        _own_row(number, label, ms, [each[label] for each in seat.beside])
        for number, seat in seats
        if seat.job.name == FLOWPOSE
        for label, ms in seat.ms.items()
    ]


def _own_row(sitting: int, label: str, ms: Sequence[float], beside: Sequence[Sequence[float]]) -> Row:
    every = [*ms, *chain.from_iterable(beside)]
    return {
        "sitting": sitting, "label": label, "n": len(every), "frame_ms": median(every), **spread(every),
        "ms": rounded(ms), "beside_whole_ms": [rounded(each) for each in beside],
    }  # fmt: skip


def peer_rows(seats: Iterable[tuple[int, Seat]], precisions: Mapping[str, str]) -> list[Row]:
    """A row of each peer in each backend, measured or not."""
    rows = []
    for number, seat in seats:
        if seat.job.name == FLOWPOSE:
            continue
        about = {"peer": seat.job.name, "backend": seat.job.backend, "sitting": number}
        about["precision"] = precisions[seat.job.backend]
        missing = [name for name in seat.job.calls if not seat.ms.get(name)]
        if seat.failed or missing:
            rows.append({**about, "not_measured": seat.failed or f"no turn of {', '.join(missing)}"})
        else:
            rows.append({**about, **measured(seat)})
    return rows


def measured(seat: Seat) -> Row:
    """A frame's time: whole frames where there are any, else composed of its networks' medians."""
    composed, whole = seat.composed(), seat.ms.get(WHOLE, [])
    frame = median(whole) if whole else composed
    return {
        "how": "measured" if whole else "composed", "frame_ms": frame, "fps": 1e3 / frame,
        "n": len(whole) or min(len(seat.ms[name]) for name in seat.job.calls), "composed_ms": composed,
        "whole_over_composed": frame / composed if whole else None, "whole_ms": rounded(whole),
        "contradicts": contradicts(frame / composed if whole else None),
        "networks": {
            name: {"calls": calls, "n": len(seat.ms[name]), "p50": median(seat.ms[name]), "ms": rounded(seat.ms[name])}
            for name, calls in seat.job.calls.items()
        },
        "prepare_s": {name: round(each, 2) for name, each in seat.about["prepare_s"].items()},
        "memory_mb": round(seat.about["memory_mb"]),
    }  # fmt: skip


def contradicts(whole_over_composed: float | None) -> bool:
    """Whether a whole frame and what its networks took alone are further apart than FAR."""
    return whole_over_composed is not None and not 1 / FAR <= whole_over_composed <= FAR


def spread(ms: Sequence[float]) -> dict[str, float]:
    """p95, p99 and how far p99 is above the median."""
    p95, p99 = (float(np.percentile(ms, share)) for share in (95, 99))
    return {"p95": p95, "p99": p99, "p99_over_p50": p99 / median(ms)}


def rounded(ms: Sequence[float]) -> list[float]:
    """Samples as they are stored, to a microsecond."""
    return [round(each, 3) for each in ms]


def agreement(rows: Iterable[Row], folder: Path) -> None:
    """Puts into each row how far its networks' results are from eager's; fp32 ones that are far are not measured."""
    for row in rows:
        if "not_measured" in row or row["backend"] == "eager":
            continue
        for name in row["networks"]:
            files = [folder / f"{row['peer']}.{name}.{each}.npy" for each in (row["backend"], "eager")]
            if not all(file.is_file() for file in files):
                continue
            found, expected = (np.load(file).astype(np.float64) for file in files)
            off = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            row.setdefault("differs", {})[name] = off
            if off > SAME and row["precision"] == "fp32":
                row["not_measured"] = (
                    f"{name} computes something else than eager: relative difference {off:.2g}"
                )


def add_ratios(rows: Sequence[Row], flowpose: Sequence[Row]) -> dict[str, Any]:
    """Puts each row's ratio to flowpose's frame of the same turns into it; returns those of the fastest backends.

    Whole frames are divided by what flowpose took in their own rounds, composed ones by what it took beside the
    networks: else a machine that was busy in one part of a sitting only would be taken for a slow peer. `ratio` is
    against flowpose's fastest precision and backend, `ratio_fp32` (rows in fp32) against its fastest in fp32. Which
    those are is decided once, over all sittings.
    """
    best, best_fp32 = (
        fastest(flowpose),
        fastest([each for each in flowpose if each["label"].startswith("fp32")]),
    )
    own = {(each["sitting"], each["label"]): each for each in flowpose}
    for row in rows:
        if "not_measured" in row:
            continue
        row["flowpose_ms"] = flowpose_ms(row, own[row["sitting"], best])
        row["ratio"] = row["frame_ms"] / row["flowpose_ms"]
        if best_fp32 and row["precision"] == "fp32":
            row["flowpose_fp32_ms"] = flowpose_ms(row, own[row["sitting"], best_fp32])
            row["ratio_fp32"] = row["frame_ms"] / row["flowpose_fp32_ms"]
    return {
        "flowpose_best": best, "flowpose_best_fp32": best_fp32,
        "ratios": least(rows, "ratio"), "ratios_fp32": least(rows, "ratio_fp32"),
        "ratios_by_backend": {f"{row['peer']} {row['backend']}": row["ratio"] for row in rows if "ratio" in row},
    }  # fmt: skip


def flowpose_ms(row: Row, own: Row) -> float:
    """flowpose's median in the turns that a row's frame was measured in, milliseconds."""
    if row["how"] == "composed":
        return median(own["ms"])
    return median(
        chain.from_iterable(own["beside_whole_ms"][: row["n"]])
    )  # whole frames are of the first rounds


def every_ms(own: Row) -> list[float]:
    """All samples of one of flowpose's rows; those stored before rounds were kept apart lie in `ms` together."""
    return [*own["ms"], *chain.from_iterable(own.get("beside_whole_ms", ()))]


def fastest(rows: Sequence[Row]) -> str:
    """The label with the least median over all sittings; empty where there are no rows."""
    times: dict[str, list[float]] = {}
    for row in rows:
        times.setdefault(row["label"], []).extend(every_ms(row))
    return min(times, key=lambda label: median(times[label]), default="")


def least(rows: Iterable[Row], name: str) -> dict[str, float]:
    """Peer -> the least of its rows' ratios: its fastest backend."""
    found: dict[str, float] = {}
    for row in rows:
        if name in row:
            found[row["peer"]] = min(row[name], found.get(row["peer"], row[name]))
    return found


def table(report: Mapping[str, Any]) -> str:
    """The two tables as Markdown: frames, and the networks that they are made of."""
    return "\n".join([*_frames(report), "", *_networks(report)]) + "\n"


def _frames(report: Mapping[str, Any]) -> Iterator[str]:
    height, width = report["size"]
    yield f"A frame at {height}x{width}, {report['threads']} threads, {report['machine']['cpu']}:"
    yield ""
    yield "| what | backend | GMAC | ms | frames/s | times flowpose | times flowpose, both fp32 | how |"
    yield "|---|---|---|---|---|---|---|---|"
    own = report["flowpose"]
    name = f"**flowpose {own['model']}{'' if own['trained'] else ' (random weights)'}**"
    for label in dict.fromkeys(row["label"] for row in report["flowpose_rows"]):
        ms = [each for row in report["flowpose_rows"] if row["label"] == label for each in every_ms(row)]
        p50, macs = median(ms), own["macs"][label] / 1e9
        ratio = "1" if label == report["flowpose_best"] else ""
        plain = "1" if label == report["flowpose_best_fp32"] else ""
        cells = (
            name,
            label,
            f"{macs:.2f}",
            f"{p50:.1f}",
            f"{1e3 / p50:.1f}",
            ratio,
            plain,
            f"measured, n = {len(ms)}",
        )
        yield _line(cells)
    for row in report["rows"]:
        networks = report["networks"][row["peer"]]
        macs = sum(each["macs"] * each["calls"] for each in networks.values()) / 1e9
        yield _line((row["peer"], row["backend"], f"{macs:.0f}", *_measured_cells(row)))


def _measured_cells(row: Row) -> tuple[str, ...]:
    if "not_measured" in row:
        return "", "", "", "", f"not measured: {row['not_measured']}"
    checked = "" if row["whole_over_composed"] is None else f"; {row['whole_over_composed']:.2f} of composed"
    if contradicts(row["whole_over_composed"]):
        checked += ": they contradict each other"
    plain = f"{row['ratio_fp32']:.0f}" if "ratio_fp32" in row else ""
    how = f"{row['how']}, n = {row['n']}{checked}"
    return f"{row['frame_ms']:.0f}", f"{row['fps']:.3g}", f"{row['ratio']:.0f}", plain, how


def _networks(report: Mapping[str, Any]) -> Iterator[str]:
    backends = list(dict.fromkeys(row["backend"] for row in report["rows"]))
    yield "One call of each network, milliseconds (medians):"
    yield ""
    yield "| peer | network | calls a frame | GMAC | parameters, M | " + " | ".join(backends) + " |"
    yield "|---" * (5 + len(backends)) + "|"
    for peer, networks in report["networks"].items():
        rows = {row["backend"]: row for row in report["rows"] if row["peer"] == peer and "networks" in row}
        for name, each in networks.items():
            times = [f"{rows[b]['networks'][name]['p50']:.1f}" if b in rows else "" for b in backends]
            about = (f"{each['calls']:.0f}", f"{each['macs'] / 1e9:.1f}", f"{each['parameters'] / 1e6:.1f}")
            yield _line((peer, name, *about, *times))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
