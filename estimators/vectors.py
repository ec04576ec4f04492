"""Vectors: the operations of `lanes` in LLVM's vector instructions, in any width that the machine has.

LLVM finds such loops by itself only after proving at run time that no two arrays overlap, which costs more than the
loop.  Here they are handed to it: each function below is an intrinsic of numba, whose body writes the
instructions.  What each computes is said by its twin of the same name in `lanes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 64
GROUP = 4  # columns between two looks at whether any lane is left
TALLY = 8  # masks whose lanes are counted at a time
ORIGIN = float(1 << 30)  # of steps in bytes: a multiple of 256 that keeps them positive
TOP = 2.0e9  # of steps in bytes: they are 32-bit integers first
STEPS = 65535.0  # of steps in 16 bits: from 0 to here, stored less the middle
MIDDLE = 32768

_I64 = ir.IntType(64)
_TWO = types.Tuple((types.int64, types.int64))  # type: ignore[no-untyped-call]


def _vector(item: Any) -> Any:
    return ir.VectorType(item, LANES)


_U8, _I16, _F64 = (_vector(item) for item in (ir.IntType(8), ir.IntType(16), ir.DoubleType()))
_SIZE = {id(_U8): 1, id(_I16): 2, id(_F64): 8}


def _at(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Pointer to element `offset` of a contiguous array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _load(builder: Any, pointer: Any, vector: Any) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=_SIZE[id(vector)])


def _store(builder: Any, value: Any, pointer: Any, vector: Any) -> None:
    builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=_SIZE[id(vector)])


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, zeros)


def _call(builder: Any, name: str, vector: Any, *args: Any) -> Any:
    """Call an instruction of LLVM that llvmlite has no method for."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * len(args)), name)
    return builder.call(function, args)


def _larger(builder: Any, a: Any, b: Any, vector: Any) -> Any:
    if vector is _F64:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)
    return builder.select(builder.icmp_unsigned(">", a, b), a, b)


def _apart(builder: Any, a: Any, b: Any, vector: Any) -> Any:
    """|a - b|; of 16-bit integers 32,767 or 32,768 where it is more, to be read without sign."""
    if vector is _F64:  # clear the sign
        bits = _vector(_I64)
        clear = ir.Constant(bits, [0x7FFFFFFFFFFFFFFF] * LANES)
        return builder.bitcast(builder.and_(builder.bitcast(builder.fsub(a, b), bits), clear), vector)
    x, zero = _call(builder, f"llvm.ssub.sat.v{LANES}i16", vector, a, b), ir.Constant(vector, [0] * LANES)
    return builder.select(builder.icmp_signed("<", x, zero), builder.sub(zero, x), x)


def _loop(
    builder: Any, rounds: Any, carried: list[Any], body: Callable[[Any, list[Any]], tuple[list[Any], Any]]
) -> Any:
    """``while i < rounds`` with values carried from round to round; body returns them and whether to go on."""
    entry = builder.block
    head, work, done = (builder.append_basic_block(name) for name in ("lanes.head", "lanes.work", "lanes.done"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    values = [builder.phi(value.type) for value in carried]
    go_on = builder.phi(ir.IntType(1))
    index.add_incoming(ir.Constant(_I64, 0), entry)
    go_on.add_incoming(ir.Constant(ir.IntType(1), 1), entry)
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, entry)
    builder.cbranch(builder.and_(go_on, builder.icmp_signed("<", index, rounds)), work, done)
    builder.position_at_end(work)
    after, more = body(index, values)
    last = builder.block
    index.add_incoming(builder.add(index, ir.Constant(_I64, 1)), last)
    go_on.add_incoming(more, last)
    for phi, value in zip(values, after, strict=True):
        phi.add_incoming(value, last)
    builder.branch(head)
    builder.position_at_end(done)
    return values


_ALWAYS = ir.Constant(ir.IntType(1), 1)


def _constant(value: int) -> Any:
    return ir.Constant(_I64, value)


@intrinsic
def within_u8(  # type: ignore[no-untyped-def]
    typing, codes, base, low, low_base, columns, limit
):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codes, base, low, low_base, columns, limit = args
        tile = _at(context, builder, signature.args[0], codes, base)
        own = _at(context, builder, signature.args[2], low, low_base)
        top = _splat(builder, builder.trunc(limit, ir.IntType(8)), _U8)

        def group(index: Any, values: list[Any]) -> tuple[list[Any], Any]:
            far = values[0]
            for i in range(GROUP):
                c = builder.add(builder.mul(index, _constant(GROUP)), _constant(i))
                x = _load(builder, builder.gep(tile, [builder.mul(c, _constant(LANES))]), _U8)
                gap = builder.sub(x, _splat(builder, builder.load(builder.gep(own, [c])), _U8))
                far = _larger(builder, far, gap, _U8)
            mask = builder.bitcast(builder.icmp_unsigned("<=", far, top), _I64)
            return [far, mask], builder.icmp_signed("!=", mask, _constant(0))

        start = [ir.Constant(_U8, [0] * LANES), ir.Constant(_I64, -1)]
        return _loop(builder, builder.sdiv(columns, _constant(GROUP)), start, group)[1]

    whole = types.int64
    return whole(codes, whole, low, whole, whole, whole), emit


def _widen_vector(vector: Any) -> Any:
    @intrinsic
    def widen(typing, points, base, own, own_base, columns, far):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            points, base, own, own_base, columns, far = args
            tile = _at(context, builder, signature.args[0], points, base)
            query = _at(context, builder, signature.args[2], own, own_base)
            state = _at(context, builder, signature.args[5], far, _constant(0))

            def column(c: Any, values: list[Any]) -> tuple[list[Any], Any]:
                x = _load(builder, builder.gep(tile, [builder.mul(c, _constant(LANES))]), vector)
                gap = _apart(builder, x, _splat(builder, builder.load(builder.gep(query, [c])), vector), vector)
                return [_larger(builder, values[0], gap, vector)], _ALWAYS

            result = _loop(builder, columns, [_load(builder, state, vector)], column)[0]
            _store(builder, result, state, vector)
            return context.get_dummy_value()

        whole = types.int64
        return types.void(points, whole, own, whole, whole, far), emit

    return widen


def _round_vector(vector: Any, origin: float, top: float, shift: int) -> Any:
    @intrinsic
    def round_to(typing, points, at, base, inverse, codes, to):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            points, at, base, inverse, codes, to = args
            x = _load(builder, _at(context, builder, signature.args[0], points, at), _F64)
            steps = builder.fsub(x, _splat(builder, base, _F64))
            steps = builder.fmul(steps, _splat(builder, inverse, _F64))
            steps = builder.fadd(steps, ir.Constant(_F64, [origin] * LANES))
            # in this order, what is not a number (a lane without a point) becomes the largest
            highest, zero = ir.Constant(_F64, [top] * LANES), ir.Constant(_F64, [0.0] * LANES)
            steps = builder.select(builder.fcmp_ordered("<", steps, highest), steps, highest)
            steps = builder.select(builder.fcmp_ordered(">", steps, zero), steps, zero)
            whole = builder.fptosi(steps, _vector(ir.IntType(32)))
            whole = builder.sub(whole, ir.Constant(whole.type, [shift] * LANES))
            _store(
                builder, builder.trunc(whole, vector), _at(context, builder, signature.args[4], codes, to), vector
            )
            return context.get_dummy_value()

        return types.void(points, types.int64, types.float64, types.float64, codes, types.int64), emit

    return round_to


@intrinsic
def walk_i16(typing, codes, own, own_base, first, stops, inner, outer, far, near):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codes, own, own_base, first, stops, inner, outer = args[:7]
        zero = _constant(0)
        tile = _at(context, builder, signature.args[0], codes, zero)
        query = _at(context, builder, signature.args[1], own, own_base)
        ends = context.make_array(signature.args[4])(context, builder, stops)
        far_at, near_at = (_at(context, builder, signature.args[i], args[i], zero) for i in (7, 8))
        band = _Band(builder, inner, outer)

        def stop(j: Any, values: list[Any]) -> tuple[list[Any], Any]:
            start, gap, above, _ = values
            end = builder.load(builder.gep(ends.data, [j]))

            def column(i: Any, inside: list[Any]) -> tuple[list[Any], Any]:
                c = builder.add(start, i)
                x = _load(builder, builder.gep(tile, [builder.mul(c, _constant(LANES))]), _I16)
                apart = _apart(builder, x, _splat(builder, builder.load(builder.gep(query, [c])), _I16), _I16)
                return [_larger(builder, inside[0], apart, _I16)], _ALWAYS

            gap = _loop(builder, builder.sub(end, start), [gap], column)[0]
            _store(builder, gap, builder.gep(far_at, [builder.mul(j, _constant(LANES))]), _I16)
            left = band.near(gap)
            builder.store(left, builder.gep(near_at, [j]))
            more = builder.icmp_signed("!=", left, zero)
            return [end, gap, band.follow(above, gap), builder.add(j, _constant(1))], more

        start = [first, ir.Constant(_I16, [0] * LANES), band.start, zero]
        _, _, above, done = _loop(builder, builder.extract_value(ends.shape, 0), start, stop)
        return context.make_tuple(builder, signature.return_type, [done, band.unsure(above)])

    whole = types.int64
    return _TWO(codes, own, whole, whole, stops, whole, whole, far, near), emit


class _Band:
    """Lanes at most `outer` far, and which were at some time between `inner` and `outer`."""

    def __init__(self, builder: Any, inner: Any, outer: Any) -> None:
        self._builder = builder
        width = builder.sub(outer, inner)
        self._inner, self._outer, self._width = (
            _splat(builder, builder.trunc(limit, ir.IntType(16)), _I16) for limit in (inner, outer, width)
        )
        self.start = ir.Constant(_I16, [0xFFFF] * LANES)

    def near(self, gap: Any) -> Any:
        return self._builder.bitcast(self._builder.icmp_unsigned("<=", gap, self._outer), _I64)

    def follow(self, above: Any, gap: Any) -> Any:
        """The least that a gap was above `inner`; one below counts as far above."""
        now = self._builder.sub(gap, self._inner)
        return self._builder.select(self._builder.icmp_unsigned("<", now, above), now, above)

    def unsure(self, above: Any) -> Any:
        return self._builder.bitcast(self._builder.icmp_unsigned("<=", above, self._width), _I64)


@intrinsic
def recut_i16(typing, far, rows, inner, outer, near):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, rows, inner, outer, _ = args
        far_at, near_at = (_at(context, builder, signature.args[i], args[i], _constant(0)) for i in (0, 4))
        band = _Band(builder, inner, outer)

        def row(j: Any, values: list[Any]) -> tuple[list[Any], Any]:
            gap = _load(builder, builder.gep(far_at, [builder.mul(j, _constant(LANES))]), _I16)
            left = band.near(gap)
            builder.store(left, builder.gep(near_at, [j]))
            more = builder.icmp_signed("!=", left, _constant(0))
            return [band.follow(values[0], gap), builder.add(j, _constant(1))], more

        above, done = _loop(builder, rows, [band.start, _constant(0)], row)
        return context.make_tuple(builder, signature.return_type, [done, band.unsure(above)])

    whole = types.int64
    return _TWO(far, whole, whole, whole, near), emit


@intrinsic
def tally(typing, near, rows, keep, also, to, at, at_also):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        near, rows, keep, also, to, at, at_also = args
        vector = ir.VectorType(_I64, TALLY)
        masks = _at(context, builder, signature.args[0], near, _constant(0))
        counts = [_at(context, builder, signature.args[4], to, start) for start in (at, at_also)]
        kept, last = (_splat(builder, value, vector) for value in (keep, rows))
        also = _splat(builder, also, vector)

        def group(index: Any, values: list[Any]) -> tuple[list[Any], Any]:
            j = builder.mul(index, _constant(TALLY))
            source, *targets = (
                builder.bitcast(builder.gep(array, [j]), vector.as_pointer()) for array in (masks, *counts)
            )
            index = builder.add(_splat(builder, j, vector), ir.Constant(vector, list(range(TALLY))))
            lanes = builder.and_(builder.load(source, align=8), kept)
            lanes = builder.select(builder.icmp_signed("<", index, last), lanes, ir.Constant(vector, [0] * TALLY))
            for target, some in zip(targets, (lanes, builder.and_(lanes, also)), strict=True):
                found = _call(builder, f"llvm.ctpop.v{TALLY}i64", vector, some)
                builder.store(builder.add(builder.load(target, align=8), found), target, align=8)
            return [], _ALWAYS

        groups = builder.sdiv(builder.add(rows, _constant(TALLY - 1)), _constant(TALLY))
        _loop(builder, groups, [], group)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(near, whole, whole, whole, to, whole, whole), emit


def _compare_vector(vector: Any, relation: str) -> Any:
    @intrinsic
    def compare(typing, far, at, limit):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            far, at, limit = args
            x = _load(builder, _at(context, builder, signature.args[0], far, at), vector)
            if vector is _F64:
                lanes = builder.fcmp_ordered(relation, x, _splat(builder, limit, vector))
            else:
                lanes = builder.icmp_unsigned(
                    relation, x, _splat(builder, builder.trunc(limit, ir.IntType(16)), vector)
                )
            return builder.bitcast(lanes, _I64)

        return types.int64(far, types.int64, types.float64 if vector is _F64 else types.int64), emit

    return compare


@intrinsic
def box_within(typing, points, base, which, boxes, box, limit):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        points, base, which, boxes, box, limit = args
        tile = _at(context, builder, signature.args[0], points, base)
        columns = context.make_array(signature.args[2])(context, builder, which)
        walls = _at(context, builder, signature.args[3], boxes, box)

        def column(c: Any, values: list[Any]) -> tuple[list[Any], Any]:
            place = builder.mul(builder.load(builder.gep(columns.data, [c])), _constant(LANES))
            x = _load(builder, builder.gep(tile, [place]), _F64)
            left = builder.mul(c, _constant(2))
            low = _splat(builder, builder.load(builder.gep(walls, [left])), _F64)
            high = _splat(builder, builder.load(builder.gep(walls, [builder.add(left, _constant(1))])), _F64)
            gap = _larger(builder, builder.fsub(low, x), builder.fsub(x, high), _F64)
            return [_larger(builder, values[0], gap, _F64)], _ALWAYS

        start = ir.Constant(_F64, [float("-inf")] * LANES)
        rounds = builder.extract_value(columns.shape, 0)
        gap = _loop(builder, rounds, [start], column)[0]
        limits = _load(builder, _at(context, builder, signature.args[5], limit, _constant(0)), _F64)
        return builder.bitcast(builder.fcmp_ordered("<=", gap, limits), _I64)

    whole = types.int64
    return whole(points, whole, which, boxes, whole, limit), emit


def _least_vector(parts: int) -> Any:
    @intrinsic
    def least_of(typing, far, least):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            far, least = args
            some = ir.VectorType(ir.DoubleType(), parts)
            starts = (_at(context, builder, signature.args[0], far, _constant(i)) for i in range(0, LANES, parts))
            rows = [builder.load(builder.bitcast(p, some.as_pointer()), align=8) for p in starts]
            while len(rows) > 1:
                pairs = zip(rows[::2], rows[1::2], strict=True)
                rows = [builder.select(builder.fcmp_ordered("<", a, b), a, b) for a, b in pairs]
            target = _at(context, builder, signature.args[1], least, _constant(0))
            builder.store(rows[0], builder.bitcast(target, some.as_pointer()), align=8)
            return context.get_dummy_value()

        return types.void(far, least), emit

    return least_of


@intrinsic
def popcount(typing, mask):  # type: ignore[no-untyped-def]
    return types.int64(types.int64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def lowest(typing, mask):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), emit


@intrinsic
def drop_lowest(typing, mask):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(args[0], builder.sub(args[0], _constant(1)))

    return types.int64(types.int64), emit


@intrinsic
def drop_lane(typing, mask, lane):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(args[0], builder.not_(builder.shl(_constant(1), args[1])))

    return types.int64(types.int64, types.int64), emit


widen_f64 = _widen_vector(_F64)
widen_i16 = _widen_vector(_I16)
at_most_f64 = _compare_vector(_F64, "<=")
below_f64 = _compare_vector(_F64, "<")
at_most_i16 = _compare_vector(_I16, "<=")
below_i16 = _compare_vector(_I16, "<")
round_i16 = _round_vector(_I16, 0.0, STEPS, MIDDLE)
round_u8 = _round_vector(_U8, ORIGIN, TOP, 0)
least_of_8, least_of_16 = (_least_vector(parts) for parts in (8, 16))
