#!/usr/bin/env python3
"""Makes two_parts.json: two small networks of two parts each, as PyTorch exports them, and what PyTorch makes of them in float64; and
segment_anything.json.gz: Segment Anything itself, small and untrained.

    python make_two_parts.py                        (needs torch and onnx)
    python make_two_parts.py segment_anything       (needs transformers and onnxscript too; made with transformers 5.24, torch 2.15)

"sam" is built like Segment Anything: an encoder with an embedding and finer features, a decoder with points as Fourier features, attention
both ways, the previous mask, three answers at half the grid and a score. "maps" takes batches, and its prompts are maps. Recorded are, for
one step of the thesis's losses, the probabilities, the losses, the gradients of the decoder's weights and the weights after the step.
Tensors are float32 in base64. Segment Anything comes in three forms: as Hugging Face's exporters name its inputs, by both exporters of PyTorch, and as
the script of its authors does, whose first answer has a size that is only known when it is asked.
"""
import base64, gzip, io, json, pathlib, sys, tempfile, warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

warnings.filterwarnings("ignore")
G, P, D, MASK = 32, 4, 8, 1
LAMBDA, RATE = 2.0, 0.5


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, D, 3, 2, 1)

    def forward(self, x):
        fine = F.relu(self.fine(x))
        return self.coarse(fine), fine


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(D, D) for _ in range(4))

    def forward(self, q, kv):
        heads = lambda t: t.reshape(1, -1, 2, D // 2).transpose(1, 2)
        q, k, v = heads(self.q(q)), heads(self.k(kv)), heads(self.v(kv))
        a = torch.softmax(q @ k.transpose(2, 3) / 2.0, -1) @ v
        return self.out(a.transpose(1, 2).reshape(1, -1, D))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, D // 2))
        self.labels = nn.Parameter(torch.randn(3, D) * 0.3)
        self.masks, self.no_mask = nn.Parameter(torch.randn(3, D) * 0.3), nn.Parameter(torch.randn(1, D, 1, 1) * 0.3)
        self.shown = nn.Conv2d(1, D, 1)
        self.read, self.write = Attention(), Attention()
        self.norm = nn.LayerNorm(D)
        self.up, self.hyper, self.score = nn.ConvTranspose2d(D, 4, 2, 2), nn.Linear(D, 4), nn.Linear(D, 1)

    def forward(self, image_embeddings, high_res, point_coords, point_labels, mask_input, has_mask_input):
        angle = 6.2831853 * (((point_coords + 0.5) / G * 2 - 1) @ self.frequencies)
        points = torch.cat([angle.sin(), angle.cos()], -1)
        label = point_labels.unsqueeze(-1)
        points = points * (label != -1)
        for i, l in enumerate((-1, 0, 1)):
            points = points + self.labels[i] * (label == l)
        src = image_embeddings + has_mask_input * self.shown(mask_input) + (1 - has_mask_input) * self.no_mask
        src = src.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.masks.unsqueeze(0), points], 1)
        tokens = self.norm(tokens + self.read(tokens, src))
        src = (src + self.write(src, tokens)).transpose(1, 2).reshape(1, D, G // 4, G // 4)
        up = F.gelu(self.up(src) + high_res)
        masks = (self.hyper(tokens[:, :3]) @ up.flatten(2)).reshape(1, 3, G // 2, G // 2)
        return masks, self.score(tokens[:, :3])


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(D + 2, D, 3, padding=1), nn.Conv2d(D, 1, 1)

    def forward(self, embedding, prompts):
        x = torch.cat([F.interpolate(embedding, scale_factor=4.0, mode="nearest"), prompts], 1)
        return self.head(F.relu(self.conv(x)))


class Coarse(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        return self.encoder(x)[0]


def pack(t):
    return base64.b64encode(t.detach().to(torch.float32).contiguous().numpy().tobytes()).decode()


def export(net, args, names, outputs, axes=None):
    f = io.BytesIO()
    torch.onnx.export(net.float(), tuple(a.float() for a in args), f, input_names=names, output_names=outputs, opset_version=17,
                      dynamic_axes=axes, dynamo=False)
    return base64.b64encode(f.getvalue()).decode()


def rounded(*shape):
    return torch.rand(*shape).float().double()


def step(decoder, logits, n):
    """One step on random targets; decoder is left with its gradients."""
    target, label = rounded(1, n, 1, G, G), (rounded(1, n, 1, G, G) > 0.5).double()
    weight, marked = (rounded(1, n, 1, G, G) > 0.3).double() / 700, (rounded(1, n, 1, G, G) > 0.9).double() / 100
    target, label = torch.cat([1 - target, target], 2), torch.cat([1 - label, label], 2)
    weight, marked, target = weight.float().double(), marked.float().double(), target.float().double()
    z = F.interpolate(logits, size=(G, G), mode="bilinear", align_corners=False)
    logp = F.log_softmax(torch.cat([torch.zeros_like(z), z], 1), 1)
    cons, inter = -(weight[0] * target[0] * logp).sum(), -(marked[0] * label[0] * logp).sum()
    (cons + LAMBDA * inter).backward()
    named = dict(decoder.named_parameters())
    used = {k: p for k, p in named.items() if p.grad is not None}
    return {
        "target": pack(target), "label": pack(label), "weight": pack(weight), "marked": pack(marked),
        "probability": pack(logp.exp()), "losses": [cons.item(), inter.item()],
        "gradients": {k: pack(p.grad) for k, p in used.items()},
        "stepped": {k: pack(p - RATE * p.grad) for k, p in used.items()},
    }


def main():
    torch.manual_seed(4)
    encoder, decoder = Encoder().double().eval(), Decoder().double().eval()
    image, previous = rounded(1, 1, G, G), (8 * rounded(1, 1, G, G) - 4).float().double()
    coords = torch.tensor([[[5.0, 7.0], [20.0, 11.0], [9.0, 28.0], [0.0, 0.0]]]).double()
    labels, has = torch.tensor([[1.0, 1.0, 0.0, -1.0]]).double(), torch.ones(1).double()
    for m in (encoder, decoder):  # so that both sides start from the same numbers
        for p in m.state_dict().values():
            p.copy_(p.float().double())
    with torch.no_grad():
        embedding, fine = encoder(image)
    shown = F.avg_pool2d(previous, 4)
    sam = {"points": P, "mask": MASK, "image": pack(image), "previous": pack(previous), "coords": pack(coords), "labels": pack(labels)}
    sam |= step(decoder, decoder(embedding, fine, coords, labels, shown, has)[0][:, MASK:MASK + 1], 1)
    with torch.no_grad():  # nothing said: no points, no previous mask
        z = decoder(embedding, fine, torch.zeros_like(coords), -torch.ones_like(labels), torch.zeros_like(shown), torch.zeros_like(has))[0]
        z = F.interpolate(z[:, MASK:MASK + 1], size=(G, G), mode="bilinear", align_corners=False)
        sam["unprompted"] = pack(torch.cat([1 - z.sigmoid(), z.sigmoid()], 1))
    sam["encoder"] = export(encoder, [image], ["x"], ["image_embeddings", "features"])
    sam["decoder"] = export(decoder, [embedding, fine, coords, labels, shown, has],
                            ["image_embeddings", "high_res", "point_coords", "point_labels", "mask_input", "has_mask_input"], ["masks", "scores"])

    encoder, decoder = Coarse().double().eval(), Maps().double().eval()
    for m in (encoder, decoder):
        for p in m.state_dict().values():
            p.copy_(p.float().double())
    image, prompts = rounded(2, 1, G, G), (rounded(2, 2, G, G) > 0.9).double()
    with torch.no_grad():
        embedding = encoder(image)
    maps = {"image": pack(image), "prompts": pack(prompts)}
    maps |= step(decoder, decoder(embedding, prompts), 2)
    free = lambda *names: {n: {0: "batch"} for n in names}
    maps["encoder"] = export(encoder, [image], ["x"], ["coarse"], free("x", "coarse"))
    maps["decoder"] = export(decoder, [embedding, prompts], ["embedding", "prompts"], ["mask"], free("embedding", "prompts", "mask"))
    out = {"grid": G, "lambda": LAMBDA, "rate": RATE, "sam": sam, "maps": maps}
    pathlib.Path(__file__).with_name("two_parts.json").write_text(json.dumps(out, indent=1))



# ---------------------------------------------------------------- Segment Anything

def sam_parts():
    """Hugging Face's model, its encoder, and its decoder as Hugging Face's exporters wrap it and as the authors' script does."""
    from transformers import SamConfig, SamModel
    size = dict(image_size=G, patch_size=8)
    config = SamConfig(vision_config=dict(hidden_size=16, output_channels=D, num_hidden_layers=1, num_attention_heads=2, num_channels=3, window_size=2, global_attn_indexes=[],
                                          num_pos_feats=D // 2, mlp_dim=32) | size,
                       prompt_encoder_config=dict(hidden_size=D, mask_input_channels=4) | size,
                       mask_decoder_config=dict(hidden_size=D, mlp_dim=16, num_hidden_layers=2, num_attention_heads=2, attention_downsample_rate=2, iou_head_hidden_dim=8))
    config._attn_implementation = "eager"
    sam = SamModel(config).eval()
    sam.shared_image_embedding.positional_embedding.requires_grad_(False)  # frequencies, drawn once and for all
    for p in sam.parameters():  # as it comes, much is 0 or 1
        p.data += 0.1 * torch.randn_like(p)

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.sam = sam

        def forward(self, pixel_values):
            return sam.vision_encoder(pixel_values)[0], sam.get_image_wide_positional_embeddings().repeat(pixel_values.shape[0], 1, 1, 1)

    class HuggingFace(nn.Module):
        def __init__(self):
            super().__init__()
            self.sam = sam

        def forward(self, input_points, input_labels, image_embeddings, image_positional_embeddings):
            sparse, dense = sam.prompt_encoder(input_points=input_points, input_labels=input_labels, input_boxes=None, input_masks=None)
            masks, scores = sam.mask_decoder(image_embeddings=image_embeddings, image_positional_embeddings=image_positional_embeddings,
                                             sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True)
            return scores, masks

    class Authors(nn.Module):
        def __init__(self):
            super().__init__()
            self.sam = sam

        def forward(self, image_embeddings, point_coords, point_labels, mask_input, has_mask_input, orig_im_size):
            e = sam.prompt_encoder
            sparse = e._embed_points(point_coords.unsqueeze(1), point_labels.unsqueeze(1), pad=False)
            dense = has_mask_input * e.mask_embed(mask_input) + (1 - has_mask_input) * e.no_mask_embed.weight.reshape(1, -1, 1, 1)
            masks, scores = sam.mask_decoder(image_embeddings=image_embeddings, image_positional_embeddings=sam.get_image_wide_positional_embeddings(),
                                             sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True)
            low = masks[:, 0]
            size = orig_im_size.to(torch.int64)
            whole = F.interpolate(low, size=(G, G), mode="bilinear", align_corners=False)
            return F.interpolate(whole, size=(size[0], size[1]), mode="bilinear", align_corners=False), scores[:, 0], low

    return sam, Vision(), HuggingFace(), Authors()


def export_file(net, args, names, outputs, dynamo=False, axes=None):
    """As export, in float32 and without what only readers need."""
    import onnx
    with tempfile.TemporaryDirectory() as d:
        path = d + "/m.onnx"
        args = tuple(a.float() if a.is_floating_point() else a for a in args)
        kind = dict(dynamo=True, external_data=False, verbose=False) if dynamo else dict(dynamo=False, dynamic_axes=axes)
        torch.onnx.export(net.float(), args, path, input_names=names, output_names=outputs, opset_version=18 if dynamo else 17, **kind)
        m = onnx.load(path)
    del m.graph.value_info[:], m.metadata_props[:]
    m.graph.doc_string = ""
    for n in m.graph.node:
        n.doc_string = ""
        del n.metadata_props[:]
    for f in m.functions:
        del f.value_info[:], f.metadata_props[:]
        for n in f.node:
            del n.metadata_props[:]
    return base64.b64encode(m.SerializeToString()).decode()


def as_exported(case):
    """Exporters make one tensor of the answer's tokens, and single numbers that are added are taken for no weights."""
    for of in ("gradients", "stepped"):
        both = [case[of].pop(f"mask_decoder.{k}.weight") for k in ("iou_token", "mask_tokens")]
        case[of]["tokens"] = base64.b64encode(b"".join(base64.b64decode(v) for v in both)).decode()
        case[of] = {"sam." + k: v for k, v in case[of].items() if not (k.endswith("proj_out.bias") and len(base64.b64decode(v)) == 4)}
    return case


def segment_anything():
    torch.manual_seed(5)
    sam, vision, face, authors = sam_parts()
    sam.double()
    for t in sam.state_dict().values():
        if t.is_floating_point():
            t.copy_(t.float().double())
    image, previous = rounded(1, 1, G, G), (8 * rounded(1, 1, G, G) - 4).float().double()
    coords = torch.tensor([[[5.0, 7.0], [20.0, 11.0], [9.0, 28.0], [0.0, 0.0]]]).double()
    labels, has = torch.tensor([[1, 1, 0, -10]]), torch.ones(1).double()
    colour = image.repeat(1, 3, 1, 1)
    with torch.no_grad():
        embedding, position = vision(colour)
    shown = F.avg_pool2d(previous, 2)
    out = {"grid": G, "lambda": LAMBDA, "rate": RATE}
    prompts, empty = (coords.unsqueeze(1), labels.unsqueeze(1)), (torch.zeros_like(coords).unsqueeze(1), torch.full_like(labels, -10).unsqueeze(1))
    case = {"points": P, "mask": MASK, "image": pack(image), "coords": pack(coords), "labels": pack(labels.clamp(min=-1).double())}
    case |= as_exported(step(sam, face(*prompts, embedding, position)[1][:, 0, MASK:MASK + 1], 1))
    with torch.no_grad():
        z = F.interpolate(face(*empty, embedding, position)[1][:, 0, MASK:MASK + 1], size=(G, G), mode="bilinear", align_corners=False)
    case["unprompted"] = pack(torch.cat([1 - z.sigmoid(), z.sigmoid()], 1))
    sam.zero_grad()
    other = case | {"previous": pack(previous)}
    known = torch.tensor([[1.0, 1.0, 0.0, -1.0]]).double()
    asked = lambda l, s, h: (embedding, coords if h.item() else torch.zeros_like(coords), l, s, h, torch.tensor([G, G]).double())
    other |= as_exported(step(sam, authors(*asked(known, shown, has))[2][:, MASK:MASK + 1], 1))
    with torch.no_grad():
        z = F.interpolate(authors(*asked(-torch.ones_like(known), torch.zeros_like(shown), torch.zeros_like(has)))[2][:, MASK:MASK + 1], size=(G, G), mode="bilinear", align_corners=False)
    other["unprompted"] = pack(torch.cat([1 - z.sigmoid(), z.sigmoid()], 1))
    b, q = {0: "batch_size"}, {0: "batch_size", 1: "point_batch_size"}
    ins, outs = ["input_points", "input_labels", "image_embeddings", "image_positional_embeddings"], ["iou_scores", "pred_masks"]
    axes = {"pixel_values": b, "image_embeddings": b, "image_positional_embeddings": b, "iou_scores": q, "pred_masks": q,
            "input_points": q | {2: "nb_points_per_image"}, "input_labels": q | {2: "nb_points_per_image"}}
    encoded = ["image_embeddings", "image_positional_embeddings"]
    out["face"] = case | {"encoder": export_file(vision, [colour], ["pixel_values"], encoded, axes=axes),
                          "decoder": export_file(face, [*prompts, embedding, position], ins, outs, axes=axes)}
    out["face_dynamo"] = {"encoder": export_file(vision, [colour], ["pixel_values"], encoded, dynamo=True),
                          "decoder": export_file(face, [*prompts, embedding, position], ins, outs, dynamo=True)}

    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.vision = vision

        def forward(self, x):
            return vision(x)[0]

    out["authors"] = other | {"encoder": export_file(Embedding(), [colour], ["x"], ["image_embeddings"]),
                              "decoder": export_file(authors, asked(known, shown, has), ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"],
                                                     ["masks", "iou_predictions", "low_res_masks"], axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}})}
    data = gzip.compress(json.dumps(out, separators=(",", ":")).encode(), 9, mtime=0)
    pathlib.Path(__file__).with_name("segment_anything.json.gz").write_bytes(data)
    print(len(data), "bytes")


if __name__ == "__main__":
    if sys.argv[1:] == ["segment_anything"]:
        segment_anything()
    else:
        main()
