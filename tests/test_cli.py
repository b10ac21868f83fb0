"""The command line, in one process and in real ones: what it prints, what it writes, and how it refuses."""
import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from nplearn import checkpoint, cli
from nplearn.data import locate
from nplearn.errors import BuildError
from nplearn.layers import leaves, weighted
from nplearn.rules import EXACT_TOP, registry
from nplearn.runs import Settings
from tests.homes import OWN

NAMES = registry.names(controls=True)
FORM = re.compile(r"error: .+: .+; expected .+; .+\.")


def idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def digits(folder, n=80, n_test=30, shape=(28, 28)):
    """A data set in idx files, seeded noise around one image per class."""
    rng = np.random.default_rng(0)
    means = rng.integers(0, 200, (10, *shape))
    for part, size in (("train", n), ("t10k", n_test)):
        labels = np.arange(size) % 10
        inputs = (means[labels] + rng.integers(0, 56, (size, *shape))).astype(np.uint8)
        idx(folder / f"{part}-images-idx3-ubyte", inputs)
        idx(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("data") / "noise")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No file of the user's is read, no net is reached, nothing is written into the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NPLEARN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "pooch", None)


def small(data, out, *more):
    return ["train", "--data", data, "--hidden", "8", "--batch", "16", "--out", str(out), *more]


def arrays(folder):
    found, meta = checkpoint.load(folder / "checkpoint.npz")
    return {name: a.tobytes() for name, a in found.items()}, meta


# -- rules and scope --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_rules_tells_the_page_of_one(name, capsys):
    assert cli.main(["rules", name]) == 0
    said, rule = capsys.readouterr().out, registry.make(name)
    assert ("Source: " in said or name in registry.CONTROLS) and "options: " in said
    assert f"class: {type(rule).__name__}\n" in said
    assert all(claim in said for claim in rule.claims) and all(f"{key}=" in said for key in registry.takes(name))
    assert "0x" not in said


def test_rules_lists_every_rule_with_idea_paper_state_and_who_learns(capsys):
    assert cli.main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1].strip() and line[0] != "-"][1:-1] == NAMES
    text = " ".join(" ".join(lines).split())
    for name in NAMES:
        rule = registry.make(name)
        for words in (rule.idea, rule.paper, rule.keeps, rule.learns_when):
            assert words and words.split()[0] in text
    assert max(map(len, lines[:-1])) < 140


def taken(net):
    """Names of the rules that take that net."""
    def takes(name):
        try:
            return bool(registry.make(name).attach(Settings(net=net).build(cli.SIZES["mnist5k"], 10)))
        except BuildError:
            return False
    return [name for name in NAMES if name not in OWN and takes(name)]


@pytest.mark.parametrize("net, rule", [(net, rule) for net in ("mlp", "lenet") for rule in taken(net)])
@pytest.mark.parametrize("size", ["mnist5k", "cifar-10"])
def test_scope_says_of_every_layer_where_its_error_comes_from(net, size, rule, capsys):
    assert cli.main(["scope", "--net", net, "--rule", rule, "--data", size]) == 0
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    built = Settings.for_rule(rule, net=net).build(cli.SIZES[size], 10)
    sending = 0
    for layer in leaves(built):
        line = said[layer.path]
        if not layer.sends:
            assert "none: no parameters below" in line
        elif not hasattr(layer, "feedback"):
            assert "exact backprop of what arrives: its own derivative" in line
        else:
            sending += 1
            assert ("the rule: " in line) == (rule not in ("backprop", "frozen"))
            assert ("exact backprop" in line) == (rule == "backprop")
            assert ("none: nothing" in line) == (rule == "frozen")
    assert sending == len(weighted(built)) - 1 > 0


# -- train, evaluate, resume ------------------------------------------------------------------------------------------

def test_train_and_evaluate_agree(data, tmp_path, capsys):
    assert cli.main(small(data, tmp_path / "run", "--rule", "kp", "--epochs", "3", "--lr-steps", "1:0.5,2:0.5")) == 0
    said = capsys.readouterr().out
    assert "80 training and 30 test records" in said and data in said
    history = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert history.pop(0)["early"]
    assert [record.get("lr") for record in history] == [None, 0.05, 0.025, 0.0125]
    assert f"test accuracy {100 * history[-1]['test_accuracy']:.2f} % after 3 epochs" in said
    fc1, fc2 = history[-1]["layers"]
    assert f"update to backprop's, degrees: fc1 {fc1['gradient_angle']:.1f}, fc2 0.0\n" in said
    assert f"feedback to W, degrees: fc2 {fc2['weight_angle']:.1f}\n" in said
    assert cli.main(["evaluate", str(tmp_path / "run"), "--json", str(tmp_path / "found.json")]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    assert found["n"] == 30 and found["accuracy"] == history[-1]["test_accuracy"]
    assert found["loss"] == pytest.approx(history[-1]["test_loss"])
    assert np.array(found["confusion"]).sum(axis=1).tolist() == [3] * 10
    assert np.trace(found["confusion"]) == pytest.approx(30 * found["accuracy"])
    assert "mlp under kp, 15 updates, on 30 test records" in said
    assert f"accuracy {100 * found['accuracy']:.2f} %" in said
    assert cli.main(["evaluate", str(tmp_path / "run" / "checkpoint.npz")]) == 0


def test_a_run_resumed_from_the_command_line_is_the_straight_one(data, tmp_path):
    assert cli.main(small(data, tmp_path / "straight", "--rule", "pfa", "--epochs", "3", "--augment", "2")) == 0
    for epochs in ("1", "3", "3"):
        assert cli.main(small(data, tmp_path / "parts", "--rule", "pfa", "--epochs", epochs, "--augment", "2",
                              "--resume")) == 0
    wanted, found = arrays(tmp_path / "straight"), arrays(tmp_path / "parts")
    assert wanted[0] == found[0] and wanted[1]["step"] == found[1]["step"] == 15


def test_evaluate_takes_another_data_set_of_the_same_shape(data, tmp_path, capsys):
    other = digits(tmp_path / "other", n_test=50)
    assert cli.main(small(data, tmp_path / "run", "--epochs", "1")) == 0
    assert cli.main(["evaluate", str(tmp_path / "run"), "--data", other]) == 0
    assert f"on 50 test records of other ({other})" in capsys.readouterr().out


@pytest.mark.parametrize("rule", registry.names())
def test_scope_shows_a_rule_where_it_is_at_home(rule, capsys):
    assert cli.main(["scope", "--rule", rule]) == 0
    said = capsys.readouterr().out
    assert f"under {rule} (" in said and ("the rule: " in said or rule == "backprop")
    assert ("The last layer's delta is the loss's own" in said) == (EXACT_TOP in registry.make(rule).claims)


@pytest.mark.parametrize("rule", taken("lenet"))
def test_lenet_trains_under_every_rule(rule, data, tmp_path):
    assert cli.main(["train", "--data", data, "--net", "lenet", "--rule", rule, "--epochs", "1", "--batch", "40",
                     "--lr", "0.001", "--out", str(tmp_path / "run")]) == 0
    assert arrays(tmp_path / "run")[1]["step"] == 2


# -- refusals ---------------------------------------------------------------------------------------------------------

def refused(argv, capsys, *words):
    """Status 2 and one line in the form where, got, expected, do."""
    assert cli.main([str(a) for a in argv]) == 2
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said.endswith(errors[0] + "\n") and "Traceback" not in said and "Warning" not in said
    assert FORM.fullmatch(errors[0]), errors[0]
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(("options", "words"), [
    (["--rule", "fb"], ["rule: 'fb'", "backprop, fa, dfa"]), (["--rule", "pfa:expand=0"], ["expand 0"]),
    (["--rule", "fa:wide=2"], ["rule fa: options 'wide=2'"]), (["--rule", "pfa:expand"], ["key=value"]),
    (["--net", "resnet"], ["--hidden: net resnet"]), (["--net", "lenet"], ["--hidden: net lenet"]),
    (["--device", "tpu"], ["device: 'tpu'", "cpu, gpu or gpu:N"]),
    (["--data", "mnits"], ["mnits", "check the spelling"]),
    (["--data", "cifar-10"],
     ["data set cifar-10: not found in", "cifar-10-binary.tar.gz", "pip install 'nplearn[data]'"]),
    (["--data-dir", "nowhere", "--data", "mnist5k"], ["nowhere: no such folder"]),
    (["--epochs", "-1"], ["--epochs: -1"]), (["--epochs", "0"], ["--epochs: 0"]), (["--batch", "0"], ["batch: 0"]),
    (["--lr", "nan"], ["SGD lr: nan"]), (["--lr", "-1"], ["SGD lr: -1"]), (["--momentum", "2"], ["momentum: 2"]),
    (["--decay", "-1"], ["SGD decay: -1"]), (["--hidden", "0"], ["--hidden: [0]"]),
    (["--threads", "0"], ["threads: 0"]),
    (["--init", "xaver"], ["mlp: init 'xaver'", "xavier, torch"]),
    (["--activation", "tan"], ["mlp: activation 'tan'", "tanh"]),
    (["--hidden", "8,-2"], ["--hidden: [8, -2]"]), (["--optimiser", "sdg"], ["optimiser: 'sdg'", "sgd, adam"]),
    (["--loss", "mse"], ["loss: 'mse'", "softmax"]), (["--augment", "-1"], ["Shift padding: -1"]),
    (["--lr-steps", "1:nan"], ["MultiStep factor: nan"])])
def test_a_wrong_option_is_one_line_and_status_2_and_writes_nothing(options, words, data, tmp_path, capsys):
    refused(small(data, tmp_path / "out", *options), capsys, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--lr", "fast"], ["--lr-steps", "1-0.5"], ["--lr-steps", "a:0.5"],
                                     ["--epochs", "1.5"], ["--lr-steps", "1:"], ["--hidden", "a,b"],
                                     ["--dtype", "float16"], ["--unknown"]])
def test_what_the_parser_cannot_read_is_status_2_too(options, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(small(data, tmp_path / "out", *options))
    assert stop.value.code == 2 and options[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_gpu_without_cupy_says_what_to_install(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    refused(small(data, tmp_path / "out", "--device", "gpu"), capsys, "CuPy is not installed", ".[gpu12]")


def test_a_net_too_large_for_its_input_names_the_layer(tmp_path, capsys):
    thin = digits(tmp_path / "thin", shape=(28, 9))
    refused(["train", "--net", "lenet", "--data", thin, "--out", "out"], capsys, "conv2: ", "5, 5")
    assert not os.path.exists("out")


@pytest.mark.parametrize("spoil", [
    lambda f: f.write_bytes(f.read_bytes()[:-5]), lambda f: f.write_bytes(b"\x00\x00\x0d\x03"), lambda f: f.unlink(),
    lambda f: f.write_bytes(b"")])
def test_damaged_or_missing_data_names_the_file(spoil, tmp_path, capsys):
    folder = digits(tmp_path / "set")
    spoil(tmp_path / "set" / "t10k-images-idx3-ubyte")
    refused(small(folder, tmp_path / "out"), capsys, "t10k-images-idx3-ubyte")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_never_overwritten(data, tmp_path, capsys):
    assert cli.main(small(data, tmp_path / "out", "--epochs", "1")) == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in os.listdir(tmp_path / "out")}
    refused(small(data, tmp_path / "out", "--epochs", "1"), capsys, "--out", "--resume")
    refused(small(data, tmp_path / "out", "--epochs", "2", "--resume", "--rule", "fa", "--lr", "0.1"), capsys,
            "rule is ['Backprop', {}]", "optimisers.weights.lr is 0.05 instead of 0.1", "rule/fc2.matrix is missing")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in os.listdir(tmp_path / "out")} == before


def test_out_that_is_a_file_or_cannot_be_written_is_refused(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    refused(small(data, tmp_path / "file"), capsys, "file: ")
    refused(small(data, tmp_path / "file" / "below"), capsys, "below: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_is_no_number_is_one_line(data, tmp_path, capsys):
    refused(small(data, tmp_path / "out", "--lr", "1e30"), capsys, "backprop epoch 1, step ", "a loss of ")
    assert not (tmp_path / "out" / "checkpoint.npz").exists()


@pytest.mark.parametrize("content", [None, b"", b"no zip at all", "folder", "npz", "foreign"])
def test_evaluate_refuses_what_is_no_checkpoint_of_a_run(content, tmp_path, capsys):
    path = tmp_path / "thing"
    if content == "folder":
        path.mkdir()
    elif content == "npz":
        with open(path, "wb") as file:
            np.savez(file, a=np.ones(3))
    elif content == "foreign":
        checkpoint.save(path, {"net/a": np.ones(3)}, {"step": 1})
    elif content is not None:
        path.write_bytes(content)
    refused(["evaluate", path], capsys, "thing")


def test_evaluate_refuses_data_that_does_not_fit_the_net_and_a_file_it_cannot_write(data, tmp_path, capsys):
    assert cli.main(small(data, tmp_path / "run", "--epochs", "1")) == 0
    thin = digits(tmp_path / "thin", shape=(28, 9))
    refused(["evaluate", tmp_path / "run", "--data", thin], capsys, "input: a batch of shape (30, 28, 9, 1)")
    refused(["evaluate", tmp_path / "run", "--json", tmp_path / "no" / "such.json"], capsys, "such.json")
    damaged = bytearray((tmp_path / "run" / "checkpoint.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "run" / "checkpoint.npz").write_bytes(damaged)
    refused(["evaluate", tmp_path / "run"], capsys, "checkpoint.npz", "restore it from a copy")


@pytest.mark.parametrize("options", [["--net", "vgg"], ["--rule", "fb"], ["--data", "mnits"],
                                     ["--rule", "usf:scale=big"]])
def test_scope_refuses_unknown_names(options, capsys):
    refused(["scope", *options], capsys, options[1].rpartition("=")[2])


def test_debug_shows_the_traceback_before_the_line(capsys):
    assert cli.main(["scope", "--net", "vgg", "--debug"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.splitlines()[-1].startswith("error: net: 'vgg'")


def test_all_sets_have_a_size_for_scope():
    assert set(cli.SIZES) == set(locate.NAMES)


# -- real processes ---------------------------------------------------------------------------------------------------

def run(*argv):
    return subprocess.run([sys.executable, "-m", "nplearn", *map(str, argv)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(cli.__file__))})


def test_a_real_process_trains_and_leaves_with_status_0_or_2(data, tmp_path):
    done = run(*small(data, tmp_path / "out", "--epochs", "1"))
    assert done.returncode == 0 and "test accuracy" in done.stdout and "16/" not in done.stdout
    refusal = run(*small(data, tmp_path / "out", "--epochs", "1"))
    assert refusal.returncode == 2 and "Traceback" not in refusal.stderr
    assert FORM.fullmatch(refusal.stderr.strip())
    assert arrays(tmp_path / "out")[1]["epoch"] == 1


def test_a_reader_that_leaves_is_no_error():
    rules = subprocess.Popen([sys.executable, "-m", "nplearn", "rules"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(cli.__file__))})
    rules.stdout.close()
    assert rules.stderr.read() == b"" and rules.wait() == 0
    rules.stderr.close()
