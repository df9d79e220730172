"""Collectives of HLO text, worked out by hand; those of the real step are in tests/commands/test_plan.py."""

import pytest

from mdp_jax.planning import collectives

TEXT = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[4,8]{1,0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%fused (p: f32[16]) -> f32[4] {
  %p = f32[16]{0:T(128)} parameter(0)
  %all-reduce.9 = f32[16]{0:T(128)} all-reduce(%p), channel_id=9, to_apply=%add
  ROOT %slice = f32[4]{0} slice(%all-reduce.9), slice={[0:4]}
}

%wrapped (q: bf16[6]) -> bf16[3] {
  %q = bf16[6]{0} parameter(0)
  ROOT %reduce-scatter.1 = bf16[3]{0} reduce-scatter(%q), channel_id=7, dimensions={0}, to_apply=%add
}

%body (state: (s32[], f32[2])) -> (s32[], f32[2]) {
  %state = (s32[], f32[2]{0}) parameter(0)
  %part = f32[2]{0} get-tuple-element(%state), index=1
  %all-gather.2 = f32[8]{0:T(128)S(1)} all-gather(%part), channel_id=2, dimensions={0}
  ROOT %next = (s32[], f32[2]{0}) tuple(%state, %part)
}

%condition (state.1: (s32[], f32[2])) -> pred[] {
  %state.1 = (s32[], f32[2]{0}) parameter(0)
  %limit = s32[]{:T(128)} constant(7)
  %round = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%round, %limit), direction=LT
}

%outer (state.2: (s32[], f32[2])) -> (s32[], f32[2]) {
  %state.2 = (s32[], f32[2]{0}) parameter(0)
  ROOT %while.1 = (s32[], f32[2]{0}) while(%state.2), condition=%condition, body=%body, backend_config=FIVE
}

ENTRY %main.1_spmd (param: f32[4,8], param.1: bf16[6]) -> f32[4,8] {
  %param = f32[4,8]{1,0:T(8,128)} parameter(0), metadata={op_name="all-reduce(%param)"}
  %param.1 = bf16[6]{0} parameter(1)
  %all-reduce.1 = f32[4,8]{1,0:T(8,128)S(1)} all-reduce(%param), channel_id=1, replica_groups={}, to_apply=%add
  %pair = (bf16[3]{0:T(128)(2,1)}, /*index=1*/f32[2]{0}) tuple(%param.1, %param)
  %three = bf16[3]{0} slice(%param.1), slice={[0:3]}
  %two = f32[2]{0} slice(%param), slice={[0:2]}
  %all-reduce.2 = (bf16[3]{0:T(128)(2,1)}, /*index=1*/f32[2]{0}) all-reduce(%three, %two), channel_id=3, to_apply=%add
  %fusion = f32[4]{0} fusion(%param), kind=kCustom, calls=%fused
  %async-start = ((bf16[6]{0}), bf16[3]{0}, u32[]) async-start(%param.1), calls=%wrapped
  %async-done = bf16[3]{0} async-done(%async-start), calls=%wrapped
  %permute = (bf16[6]{0}, bf16[6]{0}) collective-permute-start(%param.1), source_target_pairs={{0,1},{1,0}}
  %permute-done = bf16[6]{0} collective-permute-done(%permute)
  %start = (s32[], f32[2]{0}) tuple(%two, %two)
  %while = (s32[], f32[2]{0}) while(%start), condition=%condition, body=%outer, backend_config=THREE
  ROOT %result = f32[4,8]{1,0} add(%all-reduce.1, %all-reduce.1)
}
"""
FIVE = '{"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}'
THREE = '{"known_trip_count":{"n":"3"}}'


def test_by_hand():
    found = collectives.count(TEXT.replace("FIVE", FIVE).replace("THREE", THREE))
    assert found.bytes == {
        "all-reduce": 4 * 32 + (2 * 3 + 4 * 2) + 4 * 16,  # alone, as a tuple, inside a fusion
        "all-gather": 3 * 5 * 4 * 8,  # what comes out, in each round of the inner loop
        "reduce-scatter": 2 * 6,  # what goes in
        "all-to-all": 0,
        "collective-permute": 2 * 6,
        "collective-broadcast": 0,
    }
    assert found.calls == 3 + 15 + 1 + 1
    assert found.loops_of_unknown_length == 0


def test_scan_whose_length_its_condition_alone_tells():
    found = collectives.count(TEXT.replace("FIVE", "{}").replace("THREE", THREE))
    assert found.bytes["all-gather"] == 3 * 7 * 4 * 8
    assert found.loops_of_unknown_length == 0


def test_loop_of_unknown_length():
    text = TEXT.replace("FIVE", "{}").replace("THREE", THREE).replace("direction=LT", "direction=GT")
    found = collectives.count(text)
    assert found.bytes["all-gather"] == 3 * 4 * 8
    assert found.loops_of_unknown_length == 1


# Four devices in two slices: all of them reduce 128 bytes, 8 bytes go round inside each slice, 12 between the slices,
# and libtpu's own form sends 16 to the other slice.
SLICES = """
ENTRY %main (p: f32[32], q: f32[2], r: f32[3], s: f32[4]) -> f32[32] {
  %p = f32[32]{0} parameter(0)
  %q = f32[2]{0} parameter(1)
  %r = f32[3]{0} parameter(2)
  %s = f32[4]{0} parameter(3)
  %all = f32[32]{0} all-reduce(%p), channel_id=1, replica_groups=ALL, to_apply=%add
  %inside = f32[2]{0} all-reduce(%q), channel_id=2, replica_groups=INSIDE, to_apply=%add
  %between = f32[3]{0} all-reduce(%r), channel_id=3, replica_groups=BETWEEN, to_apply=%add
  %round = f32[2]{0} collective-permute(%q), channel_id=4, source_target_pairs={{0,1},{1,0},{2,3},{3,2}}
  %after = token[] after-all()
  ROOT %result = f32[32]{0} copy(%all)
}
"""
MEGASCALE = """  %send = (f32[4]{0}, u32[], token[]) send(%s, %after), channel_id=5, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done = token[] send-done(%send), channel_id=5, is_host_transfer=true
  ROOT %result"""
FORMS = {
    "listed": ("{{0,1,2,3}}", "{{0,1},{2,3}}", "{{0,2},{1,3}}"),
    "counted": ("[1,4]<=[4]", "[2,2]<=[4]", "[2,2]<=[2,2]T(1,0)"),
    "axes of a mesh": (
        "mesh['a'=2,'b'=2] {'a','b'}",
        "mesh['a'=2,'b'=2] {'b'}",
        "mesh['b'=2,'a'=2], device_ids=([2,2]T(1,0)) {'a'}",
    ),
    "not written": ("{}", "{{0,1},{2,3}}", "{{0,2},{1,3}}"),
}


@pytest.mark.parametrize("form", FORMS)
def test_bytes_between_slices(form):
    """Of the reduction over all a chip's half of the slice's 128 bytes; between the slices each chip sends its own."""
    text = SLICES
    for name, groups in zip(("ALL", "INSIDE", "BETWEEN"), FORMS[form], strict=True):
        text = text.replace(f"replica_groups={name}", f"replica_groups={groups}")
    found = collectives.count(text, inside=2)
    assert found.to_other_slices == 128 / 2 + 12
    assert found.bytes["all-reduce"] == 128 + 8 + 12
    assert collectives.count(text).to_other_slices == 0


def test_bytes_between_slices_as_libtpu_writes_them():
    assert collectives.count(SLICES.replace("  ROOT %result", MEGASCALE)).to_other_slices == 16
