import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from mdp_jax import checks, configs
from mdp_jax.commands import convert
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.training.finetuning import finetune
from mdp_jax.training.pretraining import pretrain, start_from
from mdp_jax.training.programs import Program
from mdp_jax.training.state import PretrainState
from mdp_jax.training.transfer import transfer
from mdp_jax.weights import layouts
from mdp_jax.weights.init import load_init
from mdp_jax.weights.torch_weights import to_torch
from mdp_jax.weights.whole import read_network
from tests import tiny
from tests.models import plain_parts
from tests.weights import seeded_weights as weights

PARTS = ("backbone", "decoder")


def their_state(variables, layout="mmseg", alone=False):
    """A state dict in the layout, with counters and one leaf of another kind of auxiliary head, from variables."""
    ours = to_torch(variables["params"]) | to_torch(variables["batch_stats"])
    if alone:
        ours = {key: array for key, array in ours.items() if key.startswith("backbone.")}
    modules = layouts.modules_for(tiny.finetune_config(model__decoder__layout=layout).model, layout, alone)
    modules |= layouts.LAYOUTS[layout].AUXILIARY
    state = {layouts.rename(key, modules): array for key, array in ours.items()}
    if "auxiliary" in variables["params"]:
        return state
    extra = {"torchvision": "fc.weight" if alone else "aux_classifier.4.bias", "mmseg": "auxiliary_head.conv_seg.bias"}
    bn = layouts.rename("backbone.bn1.num_batches_tracked", modules)
    return state | {extra[layout]: np.zeros(3, np.float32), bn: np.int64(5)}


def new_network(**overrides):
    """Other values than the seeded ones, in the same shapes."""
    variables = weights.segmenter_variables(**overrides)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + 1), variables)


@pytest.fixture(scope="module")
def seeded():
    """Variables of a small segmenter, in both layouts."""
    return {name: weights.segmenter_variables(model__decoder__layout=name) for name in layouts.LAYOUTS}


@pytest.fixture(scope="module")
def new():
    return {name: new_network(model__decoder__layout=name) for name in layouts.LAYOUTS}


def load(path, new, parts=PARTS):
    params, batch_stats, report = load_init(path, new["params"], new["batch_stats"], parts)
    return {"params": params, "batch_stats": batch_stats}, report


def statuses(report):
    return {leaf.key: (leaf.status, leaf.note) for leaf in report.leaves}


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_backbone_and_decoder_of_a_file(tmp_path, seeded, new, layout):
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded[layout], layout))
    loaded, report = load(path, new[layout])
    for name in ("params", "batch_stats"):
        weights.assert_same_tree({p: loaded[name][p] for p in PARTS}, {p: seeded[layout][name][p] for p in PARTS})
    weights.assert_same_tree(loaded["params"]["classifier"], new[layout]["params"]["classifier"])
    found = statuses(report)
    assert len(found) == len(their_state(seeded[layout], layout))
    assert found["backbone.conv1.weight"] == ("loaded", "backbone")
    classifier = {"torchvision": "classifier.4.bias", "mmseg": "decode_head.conv_seg.bias"}[layout]
    assert found[classifier] == ("skipped", "classifier of 3 classes; the new head is trained")
    head = {"torchvision": "aux_classifier.4.bias", "mmseg": "auxiliary_head.conv_seg.bias"}[layout]
    other = "auxiliary head of another form; that of fine-tuning is one convolution and a classifier"
    assert found[head] == ("skipped", other)
    assert found["backbone.bn1.num_batches_tracked"] == ("skipped", "counter that nothing reads")


def test_the_backbone_alone(tmp_path, seeded, new, capsys):
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["mmseg"], "torchvision", alone=True))
    before = new["mmseg"]
    params, batch_stats, origins, source, left = transfer(str(path), PARTS, before["params"], before["batch_stats"])
    names = {row["leaf"]: row["from"] for row in origins}
    assert names["params/backbone/conv1/kernel"] == "conv1.weight"
    assert names["batch_stats/backbone/layer1/0/bn1/mean"] == "layer1.0.bn1.running_mean"
    assert all(bool(name) == leaf.split("/")[1].startswith("backbone") for leaf, name in names.items())
    assert source == f"the file {path}" and left["fc.weight"] == "classifier of whole images"
    weights.assert_same_tree(params["backbone"], seeded["mmseg"]["params"]["backbone"])
    weights.assert_same_tree(batch_stats["backbone"], seeded["mmseg"]["batch_stats"]["backbone"])
    weights.assert_same_tree(params["decoder"], before["params"]["decoder"])
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith(f"--init {path}: ") for line in said)
    assert [line.removeprefix(f"--init {path}: ") for line in said] == [
        "loaded 100: bn1.bias .. layer4.1.conv2.weight (backbone)",
        "skipped 1: bn1.num_batches_tracked (counter that nothing reads)",
        "skipped 1: fc.weight (classifier of whole images)",
        "missing 25: decoder.aspp_0.bn.bias .. decoder.image_pool.bn.running_var (stays as initialised)",
    ]


def test_a_decoder_of_the_other_layout_is_left_out(tmp_path, seeded, new):
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["torchvision"], "torchvision"))
    loaded, report = load(path, new["mmseg"])
    weights.assert_same_tree(loaded["params"]["decoder"], new["mmseg"]["params"]["decoder"])
    weights.assert_same_tree(loaded["params"]["backbone"], seeded["torchvision"]["params"]["backbone"])
    status, note = statuses(report)["classifier.1.weight"]
    assert (status, note) == ("skipped", "decoder of torchvision's layout; config.model.decoder.layout is mmseg")


def test_a_classifier_is_taken_where_asked_for_and_of_the_same_classes(tmp_path, seeded, new):
    parts = (*PARTS, "classifier")
    state = their_state(seeded["mmseg"])
    loaded, _ = load(weights.write_file(tmp_path / "x.safetensors", state), new["mmseg"], parts)
    weights.assert_same_tree(loaded, seeded["mmseg"])
    for key in ("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"):
        state[key] = np.zeros((21, *state[key].shape[1:]), np.float32)
    loaded, report = load(weights.write_file(tmp_path / "y.safetensors", state), new["mmseg"], parts)
    weights.assert_same_tree(loaded["params"]["classifier"], new["mmseg"]["params"]["classifier"])
    assert statuses(report)["decode_head.conv_seg.bias"] == ("skipped", "another number of classes: 21, here 3")


def with_auxiliary(layout="mmseg", classes=3):
    """Seeded variables of a small segmenter with an auxiliary head."""
    head = {"model__auxiliary__weight": 0.4, "model__auxiliary__channels": 6}
    config = configs.typed_finetune(tiny.finetune_config(model__decoder__layout=layout, **head))
    return weights.variables_of(network.segmenter(config.model, classes))


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_an_auxiliary_head_comes_back_bit_for_bit(tmp_path, layout):
    """Of our names, theirs, a file, and ours again; by `mdp convert` between files as well."""
    variables = with_auxiliary(layout)
    state = their_state(variables, layout)
    path = weights.write_file(tmp_path / "x.safetensors", state)
    blank = jax.tree.map(lambda leaf: jnp.asarray(leaf + 1), variables)
    loaded, report = load(path, blank, checks.TRANSFERABLE)
    weights.assert_same_tree(loaded, variables)
    assert {leaf.status for leaf in report.leaves} == {"loaded"}
    again, _ = convert.to_layout(convert.from_file(str(path), layout), layout)
    weights.assert_same_tree({key: array for key, array in again.items() if key in state}, state)
    config = configs.typed_finetune(tiny.finetune_config(model__decoder__layout=layout))
    assert set(read_network(path, config.model).params) == {"backbone", "decoder", "classifier"}


def test_an_auxiliary_head_is_taken_where_asked_for_and_of_the_same_classes(tmp_path, new):
    variables = with_auxiliary()
    state = their_state(variables)
    path = weights.write_file(tmp_path / "x.safetensors", state)
    parts = (*PARTS, "auxiliary")

    def left_out(blank, parts):
        loaded, report = load(path, blank, parts)
        weights.assert_same_tree(loaded["params"].get("auxiliary"), blank["params"].get("auxiliary"))
        status, note = statuses(report)["auxiliary_head.convs.0.bn.running_var"]
        assert status == "skipped"
        return note

    assert left_out(new["mmseg"], PARTS) == "auxiliary head; this run has none"
    blank = jax.tree.map(lambda leaf: jnp.asarray(leaf + 1), variables)
    assert left_out(blank, PARTS).startswith("auxiliary head of 3 classes; the new head is trained, since config.trans")
    of_other = jax.tree.map(jnp.asarray, with_auxiliary(classes=5))
    assert left_out(of_other, parts) == "auxiliary head of another number of classes: 3, here 5"
    state["auxiliary_head.conv_seg.bias"][1] = np.nan
    weights.write_file(path, state)
    left_out(blank, PARTS)
    with pytest.raises(UserError, match=r"auxiliary_head\.conv_seg\.bias holds nan"):
        load(path, blank, parts)
    with pytest.raises(UserError, match=r"auxiliary_head\.conv_seg\.bias holds nan"):
        convert.from_file(str(path), "mmseg")


@pytest.mark.parametrize(
    "dtype, note", [(np.float16, "float16; cast to float32"), (np.float64, "float64; cast to float32")]
)
def test_other_precisions_are_cast_and_said(tmp_path, seeded, new, dtype, note):
    state = their_state(seeded["mmseg"])
    cast = {key: array.astype(dtype) if array.dtype == np.float32 else array for key, array in state.items()}
    loaded, report = load(weights.write_file(tmp_path / "x.safetensors", cast), new["mmseg"])
    kernel = loaded["params"]["backbone"]["conv1"]["kernel"]
    assert kernel.dtype == jnp.float32
    expected = seeded["mmseg"]["params"]["backbone"]["conv1"]["kernel"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(kernel, expected)
    assert any(note in line for line in report.lines())


def test_the_decoder_of_another_architecture_is_left_out(tmp_path, new):
    plus = weights.segmenter_variables(model__decoder__name="deeplabv3plus")
    ours = to_torch(plus["params"]) | to_torch(plus["batch_stats"])
    modules = layouts.modules_for(tiny.finetune_config(model__decoder__name="deeplabv3plus").model, "mmseg", False)
    state = {layouts.rename(key, modules): array for key, array in ours.items()}
    loaded, report = load(weights.write_file(tmp_path / "x.safetensors", state), new["mmseg"])
    weights.assert_same_tree(loaded["params"]["decoder"], new["mmseg"]["params"]["decoder"])
    weights.assert_same_tree(loaded["params"]["backbone"], plus["params"]["backbone"])
    note = "decoder deeplabv3plus; config.model.decoder.name is deeplabv3"
    assert statuses(report)["decode_head.c1_bottleneck.bn.bias"] == ("skipped", note)
    again, _ = load(tmp_path / "x.safetensors", jax.tree.map(lambda leaf: jnp.asarray(leaf + 1), plus))
    weights.assert_same_tree(again["params"]["decoder"], plus["params"]["decoder"])


def test_a_network_without_batch_normalisation(tmp_path, monkeypatch):
    plain_parts.register(monkeypatch)
    new, parts = new_network(**plain_parts.OVERRIDES), (*PARTS, "classifier")
    assert new["batch_stats"] == {}
    config = tiny.finetune_config(**plain_parts.OVERRIDES)
    modules = layouts.modules_for(config.model, "mmseg", False)
    seeded = weights.segmenter_variables(**plain_parts.OVERRIDES)
    state = {layouts.rename(key, modules): array for key, array in to_torch(seeded["params"]).items()}
    path = weights.write_file(tmp_path / "x.safetensors", state)
    params, batch_stats, report = load_init(path, new["params"], {}, parts)
    weights.assert_same_tree(params, seeded["params"])
    assert batch_stats == {}
    assert {leaf.status for leaf in report.leaves} == {"loaded"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_weights_name_file_and_leaf(tmp_path, seeded, new, value):
    """1e300 is finite in the file and infinite in the network."""
    state = their_state(seeded["mmseg"])
    key = "backbone.layer1.0.conv1.weight"
    state[key] = state[key].astype(np.float64)
    state[key][1, 0, 2, 2] = value
    path = weights.write_file(tmp_path / "x.safetensors", state)
    refused(path, new["mmseg"], key, f"holds {'inf' if value == 1e300 else value}", "1 of 144 values")


def test_variances_below_0_are_refused_and_of_0_taken(tmp_path, seeded, new):
    state = their_state(seeded["mmseg"])
    state["backbone.bn1.running_var"] = np.float32([1, 0, -1e-3, -2])
    path = weights.write_file(tmp_path / "x.safetensors", state)
    refused(path, new["mmseg"], "backbone.bn1.running_var holds -0.001", "2 of 4 values", "variances from 0")
    state["backbone.bn1.running_var"] = np.zeros(4, np.float32)
    load(weights.write_file(path, state), new["mmseg"])


def test_values_of_leaves_that_are_left_out_do_not_matter(tmp_path, seeded, new):
    damaged = {f"{head}.conv_seg.bias": np.float32([np.nan, 1, 2]) for head in ("auxiliary_head", "decode_head")}
    state = their_state(seeded["mmseg"]) | damaged
    found, _ = load(weights.write_file(tmp_path / "x.safetensors", state), new["mmseg"])
    expected, _ = load(weights.write_file(tmp_path / "y.safetensors", their_state(seeded["mmseg"])), new["mmseg"])
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def refused(path, new, *words):
    with pytest.raises(UserError) as error:
        load(path, new)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert all(word in message for word in words), message


def test_wrong_architectures_name_leaves_and_shapes(tmp_path, seeded, new):
    path, state = tmp_path / "x.safetensors", their_state(seeded["mmseg"])
    weights.write_file(path, state)
    wider = new_network(model__width=0.125)
    refused(path, wider, "backbone.bn1.bias has shape (4,), expected (8,)", "; and ")
    deeper = new_network(model__backbone="resnet34")
    refused(path, deeper, "backbone.layer1.2.bn1.bias (4,) is missing", "; and ")
    channels = new_network(model__decoder__channels=6)
    refused(path, channels, "decode_head.aspp_modules.0.bn.bias has shape (8,), expected (6,)", "decoder.channels=8")
    weights.write_file(path, state | {"backbone.layer1.0.bn3.bias": np.zeros(4, np.float32)})
    refused(path, new["mmseg"], "backbone.layer1.0.bn3.bias (4,) is not in this network")
    weights.write_file(path, state | {"neck.bias": np.zeros(4, np.float32)})
    refused(path, new["mmseg"], "neck.bias (4,) is not in this network")
    weights.write_file(path, state | {"backbone.bn1.bias": np.zeros(4, np.int32)})
    refused(path, new["mmseg"], "backbone.bn1.bias has the type int32")
    weights.write_file(path, {"features.0.weight": np.zeros((8, 3, 3, 3), np.float32)})
    refused(path, new["mmseg"], "features.0.weight")


def test_a_file_without_the_parts_asked_for(tmp_path, seeded, new):
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["mmseg"], "torchvision", alone=True))
    with pytest.raises(UserError, match="has backbone; expected one of decoder"):
        load(path, new["mmseg"], ("decoder",))


def test_a_part_that_does_not_fit_says_why_nothing_is_taken(tmp_path, seeded, new):
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["mmseg"]))
    message = "expected one of decoder; decoder of mmseg's layout; config.model.decoder.layout is torchvision"
    with pytest.raises(UserError, match=message):
        load(path, new["torchvision"], ("decoder",))
    bare = {name: {"backbone": trees["backbone"]} for name, trees in new["mmseg"].items()}
    with pytest.raises(UserError, match="expected one of decoder; this network has no decoder of its own"):
        load(path, bare, ("decoder",))


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_files_that_are_none_end_in_one_line(tmp_path, name, new):
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(UserError, match=name):
        transfer(str(tmp_path / name), PARTS, new["mmseg"]["params"], new["mmseg"]["batch_stats"])
    with pytest.raises(UserError, match="no such file"):
        transfer(str(tmp_path / "nowhere.pth"), PARTS, {}, {})


def test_both_encoders_of_pretraining_start_from_the_file(tmp_path, seeded, new):
    """With memory of their own, which the first step is given."""
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["mmseg"], "torchvision", alone=True))
    f = new["mmseg"]

    def init(params, batch_stats):
        momentum = {"momentum_params": params, "momentum_batch_stats": batch_stats}
        return jax.tree.map(jnp.copy, momentum)

    state = PretrainState(
        jnp.zeros((), jnp.int32), f["params"], f["batch_stats"], (), init(f["params"], f["batch_stats"])
    )
    shardings = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), state)
    of_file = transfer(str(path), PARTS, f["params"], f["batch_stats"])
    state = start_from(of_file, state, Program(None, None, shardings, None, None, init)).state
    momentum_params, momentum_batch_stats = tiny.momentum(state)
    for params in (state.params, momentum_params):
        weights.assert_same_tree(params["backbone"], seeded["mmseg"]["params"]["backbone"])
        weights.assert_same_tree(params["decoder"], f["params"]["decoder"])
    for batch_stats in (state.batch_stats, momentum_batch_stats):
        weights.assert_same_tree(batch_stats["backbone"], seeded["mmseg"]["batch_stats"]["backbone"])
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)


@pytest.mark.parametrize(
    "train, config", [(pretrain, tiny.pretrain_config), (finetune, tiny.finetune_config)], ids=["pretrain", "finetune"]
)
def test_weights_that_do_not_fit_are_refused_before_photos_are_read(tmp_path, seeded, monkeypatch, train, config):
    def read(*arguments, **options):
        raise AssertionError("photos are read")

    monkeypatch.setattr(sources, "check_source", read)
    path = weights.write_file(tmp_path / "x.safetensors", their_state(seeded["mmseg"]))
    with pytest.raises(UserError, match=r"x\.safetensors: another architecture than config\.model \(the file fits"):
        train(config(init=path, model__width=0.125), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        train(config(init=tmp_path / "nowhere.pth"), tmp_path / "run")


def test_a_file_of_a_classifier_and_nothing_else(tmp_path, new):
    path = weights.write_file(tmp_path / "x.safetensors", {"fc.weight": np.zeros((3, 4), np.float32)})
    refused(path, new["mmseg"], "leaves like fc.weight", "expected weights of a backbone")
