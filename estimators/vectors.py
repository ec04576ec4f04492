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
ORIGIN = float(1 << 30)  # of steps in bytes: a multiple of 256 that keeps them positive
TOP = 2.0e9  # of steps in bytes: they are 32-bit integers first
STEPS = 65535.0  # of steps in 16 bits: from 0 to here, stored less the middle
MIDDLE = 32768

_I64 = ir.IntType(64)


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
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


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
    name = f"llvm.ssub.sat.v{LANES}i16"
    subtract = builder.module.globals.get(name)
    if subtract is None:
        subtract = ir.Function(builder.module, ir.FunctionType(vector, [vector, vector]), name)
    x, zero = builder.call(subtract, [a, b]), ir.Constant(vector, [0] * LANES)
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
def walk_i16(  # type: ignore[no-untyped-def]
    typing, codes, own, own_base, first, stops, inner, outer, far, near, maybe
):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codes, own, own_base, first, stops, inner, outer = args[:7]
        zero = _constant(0)
        tile = _at(context, builder, signature.args[0], codes, zero)
        query = _at(context, builder, signature.args[1], own, own_base)
        ends = context.make_array(signature.args[4])(context, builder, stops)
        far_at, near_at, maybe_at = (_at(context, builder, signature.args[i], args[i], zero) for i in (7, 8, 9))
        surely, perhaps = (_splat(builder, builder.trunc(x, ir.IntType(16)), _I16) for x in (inner, outer))

        def stop(j: Any, values: list[Any]) -> tuple[list[Any], Any]:
            start, gap, _ = values
            end = builder.load(builder.gep(ends.data, [j]))

            def column(i: Any, inside: list[Any]) -> tuple[list[Any], Any]:
                c = builder.add(start, i)
                x = _load(builder, builder.gep(tile, [builder.mul(c, _constant(LANES))]), _I16)
                apart = _apart(builder, x, _splat(builder, builder.load(builder.gep(query, [c])), _I16), _I16)
                return [_larger(builder, inside[0], apart, _I16)], _ALWAYS

            gap = _loop(builder, builder.sub(end, start), [gap], column)[0]
            _store(builder, gap, builder.gep(far_at, [builder.mul(j, _constant(LANES))]), _I16)
            left = builder.bitcast(builder.icmp_unsigned("<=", gap, perhaps), _I64)
            builder.store(builder.bitcast(builder.icmp_unsigned("<", gap, surely), _I64), builder.gep(near_at, [j]))
            builder.store(left, builder.gep(maybe_at, [j]))
            done = builder.add(j, _constant(1))
            return [end, gap, done], builder.icmp_signed("!=", left, zero)

        start = [first, ir.Constant(_I16, [0] * LANES), zero]
        return _loop(builder, builder.extract_value(ends.shape, 0), start, stop)[2]

    whole = types.int64
    return whole(codes, own, whole, whole, stops, whole, whole, far, near, maybe), emit


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


@intrinsic
def least_of_eight(typing, far, least):  # type: ignore[no-untyped-def]
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        far, least = args
        eight = ir.VectorType(ir.DoubleType(), 8)
        pointers = [_at(context, builder, signature.args[0], far, _constant(8 * i)) for i in range(8)]
        rows = [builder.load(builder.bitcast(p, eight.as_pointer()), align=8) for p in pointers]
        while len(rows) > 1:
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [builder.select(builder.fcmp_ordered("<", a, b), a, b) for a, b in pairs]
        target = _at(context, builder, signature.args[1], least, _constant(0))
        builder.store(rows[0], builder.bitcast(target, eight.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(far, least), emit


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
at_most_i16 = _compare_vector(_I16, "<=")
below_i16 = _compare_vector(_I16, "<")
below_f64 = _compare_vector(_F64, "<")
round_i16 = _round_vector(_I16, 0.0, STEPS, MIDDLE)
round_u8 = _round_vector(_U8, ORIGIN, TOP, 0)
