"""Event files made for tests, and what protobuf's own decoder reads from them, one record at a time."""

from __future__ import annotations

import struct
from collections import defaultdict

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.util import tensor_util

from ga_audit.logs.formats._tensorboard.crc import masked_crc
from ga_audit.logs.formats._tensorboard.tfrecord import Damage, frame


def one_by_one(data):
    """(points by tag, damage): each header followed, each payload decoded by protobuf."""
    points, damage, at = defaultdict(list), Damage(), 0
    while at < len(data):
        if len(data) - at < 12:
            damage.truncated_at = at
            break
        length = valid(data, at)
        if length is None:
            damage.at(at)
            found = (s for s in range(at + 1, len(data) - 11) if valid(data, s))
            following = next(found, len(data))
            damage.skipped_bytes += following - at
            at = following
            continue
        end = at + length + 16
        if end > len(data):
            damage.truncated_at = at
            break
        payload = data[at + 12 : end - 4]
        if masked_crc(payload) == int.from_bytes(data[end - 4 : end], "little"):
            event = Event.FromString(payload)
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind == "simple_value":
                    points[value.tag].append((event.step, value.simple_value, event.wall_time))
                elif kind == "tensor" and value.tensor.dtype != 7:
                    number = tensor_util.make_ndarray(value.tensor)
                    if number.size == 1:
                        points[value.tag].append((event.step, float(number.reshape(())), event.wall_time))
        else:
            damage.wrong_payloads += 1
            damage.at(at)
        at = end
    return {tag: bits(found) for tag, found in points.items()}, damage


def valid(data, at):
    length, check = struct.unpack_from("<QI", data, at)
    return length if length < 1 << 31 and masked_crc(data[at : at + 8]) == check else None


def bits(points):
    """Comparable where NaN is equal to itself."""
    step, value, wall = zip(*points, strict=True)
    return list(step), [repr(float(v)) for v in value], list(wall)


def scalar(tag, value, step, wall=1.5):
    return event(Summary.Value(tag=tag, simple_value=value), step=step, wall=wall)


def event(*values, step=0, wall=1.5):
    return frame(Event(wall_time=wall, step=step, summary=Summary(value=values)).SerializeToString())


def mixed(steps=40, start=0):
    """Scalars of both kinds, an evaluation now and then, a histogram, a text, several values in one event."""
    out = [frame(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())]
    for step in range(start, start + steps):
        out += [scalar("train/loss", 8.0 / (step + 1), step, wall=1e9 + step / 7), scalar("train/lr", 1e-4, step)]
        tensor = Summary.Value(tag="train/grad_norm", tensor=tensor_util.make_tensor_proto(np.float32(step / 3)),
                               metadata=SummaryMetadata(data_class=1))  # fmt: skip
        out.append(event(tensor, step=step))
        if step % 5 == 0:
            out.append(scalar("eval/loss", 2.5, step))
            histogram = HistogramProto(min=0, max=1, num=step, bucket_limit=list(range(step % 7)))
            out.append(event(Summary.Value(tag="weights", histo=histogram), step=step))
            pair = (Summary.Value(tag=f"{name}/x", simple_value=float(step)) for name in ("a", "b"))
            out.append(event(*pair, step=step))
    return b"".join(out)
