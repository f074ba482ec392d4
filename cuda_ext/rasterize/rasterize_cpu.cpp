// The loops of the Gaussian rasteriser over vectors; compiled once for each instruction set, see ../simd.h.
//
// A tile of 32x32 pixels is 8x8 blocks of 4x4. For each splat of a tile, a mask of 64 bits says which blocks its
// ellipse touches; for each touched block, 16 pixels are blended at once. The way back runs front to back too: with
// s = dL/dout . (colour, 1, z) of a splat at a pixel, sum(w s) over all splats is known from the picture, so the part
// of it that lies behind the current splat is what remains after subtracting (no stored transmittance needed).

#include "../simd.h"
#include "rasterize.h"
#include "rasterize_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using namespace rasterize;

constexpr int kBlockPixels = kBlock * kBlock, kVectors = kBlockPixels / kLanes;
constexpr int kChunk = 256;  // entries of a tile whose masks are computed at a time

struct Offsets {  // pixel centres relative to the tile's corner, block column after block column
    alignas(64) float x[8][kBlockPixels], y[8][kBlockPixels];
    alignas(64) float row[16];
    constexpr Offsets() : x(), y(), row() {
        for (int b = 0; b < 8; ++b) {
            row[b] = row[b + 8] = float(b * kBlock) + 0.5f;
            for (int i = 0; i < kBlockPixels; ++i) {
                x[b][i] = float(b * kBlock + i % kBlock) + 0.5f;
                y[b][i] = float(b * kBlock + i / kBlock) + 0.5f;
            }
        }
    }
};
constexpr Offsets kOffsets;

inline int lowest_bit(uint64_t mask) { return __builtin_ctzll(mask); }

Pinhole<F> broadcast(const Camera& camera) {
    Pinhole<F> p;
    for (int i = 0; i < 9; ++i) p.r[i] = F(camera.rotation[i]);
    for (int i = 0; i < 3; ++i) p.t[i] = F(camera.translation[i]);
    p.fx = F(camera.focal[0]), p.fy = F(camera.focal[1]);
    p.cx = F(camera.center[0]), p.cy = F(camera.center[1]);
    return p;
}

// kLanes splats from `first`; lanes past the end repeat the last splat.
Splat<F> gather(const Splats& s, int first, int end) {
    alignas(64) float lane[10][kLanes];
    for (int l = 0; l < kLanes; ++l) {
        const int64_t i = first + l < end ? first + l : end - 1;
        for (int k = 0; k < 3; ++k) lane[k][l] = s.means[3 * i + k];
        for (int k = 0; k < 4; ++k) lane[3 + k][l] = s.quats[4 * i + k];
        for (int k = 0; k < 3; ++k) lane[7 + k][l] = s.scales[3 * i + k];
    }
    return {{load(lane[0]), load(lane[1]), load(lane[2])}, load(lane[3]), load(lane[4]), load(lane[5]), load(lane[6]),
            {load(lane[7]), load(lane[8]), load(lane[9])}};
}

// First and one past the last tile that pixel centres within [center - reach, center + reach] lie in.
inline bool tile_range(float center, float reach, int pixels, uint16_t& first, uint16_t& last) {
    const float margin = reach * 1.0001f + 1e-3f;
    const float low = maximum(center - margin - 0.5f, 0.0f), high = minimum(center + margin - 0.5f, float(pixels - 1));
    if (!(low <= high)) return false;
    first = uint16_t(int(__builtin_ceilf(low)) / kTile);
    last = uint16_t(int(high) / kTile + 1);
    return __builtin_ceilf(low) <= float(int(high));
}

void project(const Camera& camera, const Splats& splats, Record* records, int begin, int end) {
    const Pinhole<F> cam = broadcast(camera);
    for (int first = begin; first < end; first += kLanes) {
        const Projection<F> p = project_splat(cam, gather(splats, first, end));
        alignas(64) float lane[11][kLanes];
        const F ratio = p.l12 / p.l22;
        const F fields[11] = {p.mean_x,
                              p.mean_y,
                              p.l11,
                              p.l12,
                              p.l22,
                              p.local.z,
                              p.a,
                              p.c,
                              p.determinant,
                              F(1.0f) / p.l11,
                              ratio / square_root(fma(ratio, ratio, F(1.0f)))};
        for (int k = 0; k < 11; ++k) store(lane[k], fields[k]);
        for (int l = 0; l < kLanes && first + l < end; ++l) {
            const int64_t i = first + l;
            Record& r = records[i];
            const float opacity = splats.opacities[i], log_opacity = ::log2f(maximum(opacity, 1e-30f));
            r.x = lane[0][l], r.y = lane[1][l], r.l11 = lane[2][l], r.l12 = lane[3][l], r.l22 = lane[4][l];
            r.z = lane[5][l], r.log_opacity = log_opacity;
            r.first_slot = 0;
            for (int k = 0; k < 3; ++k) r.colour[k] = splats.channels == 3 ? splats.colours[3 * i + k] : 0.0f;
            const float spread = (log_opacity - kLogMinAlpha) * kInverseWhite2;
            const bool seen = r.z > kNear && r.z < 1e30f && spread > 0 && spread < 1e3f && lane[8][l] < 1e30f &&
                              tile_range(r.x, square_root(spread * lane[6][l]), camera.width, r.tile_x0, r.tile_x1) &&
                              tile_range(r.y, square_root(spread * lane[7][l]), camera.height, r.tile_y0, r.tile_y1);
            r.inverse_l11 = lane[9][l];
            r.reach_y = square_root(maximum(spread, 0.0f) * lane[7][l]);
            r.lean = -lane[10][l] * r.reach_y;
            if (!seen) r.tile_x0 = r.tile_x1 = r.tile_y0 = r.tile_y1 = 0;
        }
    }
}

// Which blocks of a tile hold a pixel centre with alpha >= 1/255; exact but for a margin of 1e-3 px.
//
// Within the rows of pixels dy in [a, b], the ellipse reaches to the right as far as at dy = lean, or at the nearer
// end.
inline uint64_t block_mask(const Record& r, float tile_x, float tile_y) {
    const Rows zero(0.0f), eight(8.0f), quarter(0.25f), room(r.log_opacity - kLogMinAlpha),
        slope(-r.l12 * r.inverse_l11);
    const Rows l22(r.l22), inverse_l11(r.inverse_l11), reach(r.reach_y), lean(r.lean);
    const Rows center(0.25f * (r.x - tile_x - 0.5f) + 1.0f);  // in blocks; 1 px is a quarter
    uint64_t mask = 0;
    for (int group = 0; group < 8; group += Rows::lanes) {
        const Rows top = load<Rows>(kOffsets.row + group) + Rows(tile_y - r.y), bottom = top + Rows(float(kBlock - 1));
        const Rows a = maximum(top, zero - reach), b = minimum(bottom, reach);
        const Rows right = minimum(maximum(lean, a), b), left = minimum(maximum(zero - lean, a), b);
        const Rows vr = l22 * right, vl = l22 * left;
        const Rows width_r = square_root(maximum(fnma(vr, vr, room), zero)) * inverse_l11 + Rows(1e-3f);
        const Rows width_l = square_root(maximum(fnma(vl, vl, room), zero)) * inverse_l11 + Rows(1e-3f);
        // Column c holds centres from 4 c + 0.5 to 4 c + 3.5: columns ceil((low - 3.5) / 4) to floor((high - 0.5) / 4).
        const Rows to = fma(quarter, fma(slope, right, width_r), center);
        const Rows from = fma(quarter, fma(slope, left, zero - width_l), center - Rows(0.75f));
        const Rows end = select(less(b, a), zero, minimum(maximum(to, zero), eight));
        mask |= byte_ranges(minimum(maximum(from, zero), eight), end) << (8 * group);
    }
    return mask;
}

// The blocks of a tile that lie in the picture.
uint64_t inside_picture(const Camera& camera, int tile_x, int tile_y) {
    const int columns = (camera.width - tile_x + kBlock - 1) / kBlock,
              rows = (camera.height - tile_y + kBlock - 1) / kBlock;
    const uint64_t row = columns >= 8 ? 0xFF : (1u << columns) - 1;
    uint64_t mask = 0;
    for (int i = 0; i < 8 && i < rows; ++i) mask |= row << (8 * i);
    return mask;
}

struct Tile {
    int x, y, width, height;  // pixels; width and height within the picture
    int column, row;
    const int32_t* splats;
    int count;

    Tile(const DrawJob& job, int tile) {
        column = tile % job.camera.tile_columns(), row = tile / job.camera.tile_columns();
        x = column * kTile, y = row * kTile;
        width = job.camera.width - x < kTile ? job.camera.width - x : kTile;
        height = job.camera.height - y < kTile ? job.camera.height - y : kTile;
        splats = job.bins.splats + job.bins.first[tile];
        count = job.bins.first[tile + 1] - job.bins.first[tile];
    }
    int64_t slot(const Record& r) const {
        return r.first_slot + (row - r.tile_y0) * (r.tile_x1 - r.tile_x0) + (column - r.tile_x0);
    }
};

// Where pixel (x, y) of a tile lies in its planes of blocks.
inline int place(int x, int y) {
    return ((y / kBlock) * 8 + x / kBlock) * kBlockPixels + (y % kBlock) * kBlock + x % kBlock;
}

void clear(float* p, int count) {
    for (int i = 0; i < count; ++i) p[i] = 0.0f;
}

struct Geometry {  // one splat, broadcast, relative to a tile's corner
    F x, y, l11, l12, l22, log_opacity, z;
    Geometry(const Record& r, const Tile& t)
        : x(r.x - float(t.x)),
          y(r.y - float(t.y)),
          l11(r.l11),
          l12(r.l12),
          l22(r.l22),
          log_opacity(r.log_opacity),
          z(r.z) {}
};

inline Footprint<F> on_block(const Geometry& g, int block, int part) {
    const F dx = load(kOffsets.x[block & 7] + part) - g.x, dy = load(kOffsets.y[block >> 3] + part) - g.y;
    return footprint(g.l11, g.l12, g.l22, g.log_opacity, dx, dy);
}

template <int C>
void draw_channels(const DrawJob& job, int tile, float* scratch) {
    const Tile t(job, tile);
    const int channels = C ? C : job.channels;
    float *light = scratch, *depth = light + kTilePixels, *colour = depth + kTilePixels;
    for (int i = 0; i < kTilePixels; ++i) light[i] = 1.0f;
    clear(depth, (1 + channels) * kTilePixels);
    uint64_t active = inside_picture(job.camera, t.x, t.y);

    for (int entry = 0; entry < t.count && active; ++entry) {
        const int64_t index = t.splats[entry];
        const Record& r = job.records[index];
        if (entry + 8 < t.count) __builtin_prefetch(&job.records[t.splats[entry + 8]]);
        const Geometry g(r, t);
        const float* values = C == 3 ? r.colour : job.colours + index * channels;
        F own[C ? C : 1];
        for (int k = 0; k < C; ++k) own[k] = F(values[k]);
        for (uint64_t mask = block_mask(r, float(t.x), float(t.y)) & active; mask; mask &= mask - 1) {
            const int block = lowest_bit(mask);
            bool alive = false;
            for (int part = 0; part < kBlockPixels; part += kLanes) {
                const int at = block * kBlockPixels + part;
                const Footprint<F> f = on_block(g, block, part);
                const F before = load(light + at);
                const M lit = at_least(before, F(kMinLight));
                alive |= any(lit);
                const F alpha =
                    zero_unless(both(lit, at_least(f.power, F(kLogMinAlpha))), minimum(exp2(f.power), F(kMaxAlpha)));
                const F weight = before * alpha;
                store(light + at, fnma(before, alpha, before));
                store(depth + at, fma(weight, g.z, load(depth + at)));
                for (int k = 0; k < channels; ++k) {
                    float* sum = colour + k * kTilePixels + at;
                    store(sum, fma(weight, C ? own[C ? k : 0] : F(values[k]), load(sum)));
                }
            }
            if (!alive) active &= ~(uint64_t(1) << block);
        }
    }

    for (int y = 0; y < t.height; ++y) {
        const int64_t first = int64_t(t.y + y) * job.camera.width + t.x;
        for (int x = 0; x < t.width; ++x) {
            const int at = place(x, y);
            job.image.alpha[first + x] = 1.0f - light[at];
            job.image.depth[first + x] = depth[at];
            const float* behind = job.background ? job.background + (first + x) * channels : nullptr;
            for (int k = 0; k < channels; ++k)
                job.image.colour[(first + x) * channels + k] =
                    colour[k * kTilePixels + at] + (behind ? light[at] * behind[k] : 0.0f);
        }
    }
}

// Gradients of the picture, and how much of sum(w s) is still to come, plane after plane.
struct Upstream {
    float *light, *remaining, *alpha, *depth, *colour;
    Upstream(const DrawJob& job, const Tile& t, int channels, float* scratch)
        : light(scratch),
          remaining(light + kTilePixels),
          alpha(remaining + kTilePixels),
          depth(alpha + kTilePixels),
          colour(depth + kTilePixels) {
        for (int i = 0; i < kTilePixels; ++i) light[i] = 1.0f;
        clear(remaining, (3 + channels) * kTilePixels);
        for (int y = 0; y < t.height; ++y) {
            for (int x = 0; x < t.width; ++x) {
                const int64_t pixel = int64_t(t.y + y) * job.camera.width + t.x + x;
                const int at = place(x, y);
                alpha[at] = job.gradient.alpha ? job.gradient.alpha[pixel] : 0.0f;
                depth[at] = job.gradient.depth ? job.gradient.depth[pixel] : 0.0f;
                float total = alpha[at] * job.image.alpha[pixel] + depth[at] * job.image.depth[pixel];
                for (int k = 0; k < channels; ++k) {
                    const float g = job.gradient.colour ? job.gradient.colour[pixel * channels + k] : 0.0f;
                    colour[k * kTilePixels + at] = g;
                    total += g * job.image.colour[pixel * channels + k];
                }
                remaining[at] = total;
            }
        }
    }
};

template <int C>
void draw_backward_channels(const DrawJob& job, int tile, float* scratch) {
    const Tile t(job, tile);
    const int channels = C ? C : job.channels, stride = kGeometryGradients + channels;
    const Upstream up(job, t, channels, scratch);
    uint64_t active = inside_picture(job.camera, t.x, t.y);

    for (int entry = 0; entry < t.count; ++entry) {
        const int64_t index = t.splats[entry];
        const Record& r = job.records[index];
        float* slot = job.slots + t.slot(r) * stride;
        if (entry + 8 < t.count) __builtin_prefetch(&job.records[t.splats[entry + 8]]);
        uint64_t mask = active ? block_mask(r, float(t.x), float(t.y)) & active : 0;
        if (!mask) {
            clear(slot, stride);
            continue;
        }
        const Geometry g(r, t);
        const float* values = C == 3 ? r.colour : job.colours + index * channels;
        const F zero(0.0f);
        F own[C ? C : 1], own_sum[C ? C : kMaxChannels];
        for (int k = 0; k < C; ++k) own[k] = F(values[k]);
        for (int k = 0; k < channels; ++k) own_sum[k] = zero;
        Moments<F> m{zero, zero, zero, zero, zero, zero, zero};
        for (; mask; mask &= mask - 1) {
            const int block = lowest_bit(mask);
            bool alive = false;
            for (int part = 0; part < kBlockPixels; part += kLanes) {
                const int at = block * kBlockPixels + part;
                const Footprint<F> f = on_block(g, block, part);
                const F before = load(up.light + at);
                const M lit = at_least(before, F(kMinLight));
                alive |= any(lit);
                const M drawn = both(lit, at_least(f.power, F(kLogMinAlpha)));
                const F full = exp2(f.power), alpha = zero_unless(drawn, minimum(full, F(kMaxAlpha)));
                const F weight = before * alpha, grad_depth = load(up.depth + at);
                F s = fma(grad_depth, g.z, load(up.alpha + at));
                for (int k = 0; k < channels; ++k) {
                    const F grad = load(up.colour + k * kTilePixels + at);
                    s = fma(grad, C ? own[C ? k : 0] : F(values[k]), s);
                    own_sum[k] = fma(weight, grad, own_sum[k]);
                }
                const F behind = fnma(weight, s, load(up.remaining + at));
                store(up.remaining + at, behind);
                store(up.light + at, fnma(before, alpha, before));
                // alpha = 0 where nothing is drawn; at the upper bound the derivative is zero
                const F e = zero_unless(less(full, F(kMaxAlpha)), log_alpha_gradient(before, alpha, s, behind));
                add_moments(m, f, e, weight * grad_depth);
            }
            if (!alive) active &= ~(uint64_t(1) << block);
        }
        const F moments[kGeometryGradients] = {m.e, m.eu, m.ev, m.euu, m.euv, m.evv, m.z};
        for (int k = 0; k < kGeometryGradients; ++k) slot[k] = sum(moments[k]);
        for (int k = 0; k < channels; ++k) slot[kGeometryGradients + k] = sum(own_sum[k]);
    }
}

void draw(const DrawJob& job, int tile, float* scratch) {
    job.channels == 3 ? draw_channels<3>(job, tile, scratch) : draw_channels<0>(job, tile, scratch);
}

void draw_backward(const DrawJob& job, int tile, float* scratch) {
    job.channels == 3 ? draw_backward_channels<3>(job, tile, scratch) : draw_backward_channels<0>(job, tile, scratch);
}

void project_backward(const Camera& camera, const Splats& splats, const Record* records, const float* slots,
                      const SplatsGradient& out, int begin, int end) {
    const Pinhole<F> cam = broadcast(camera);
    const int channels = splats.channels, stride = kGeometryGradients + channels;
    F pose[kPose], part[kPose];
    for (F& p : pose) p = F(0.0f);
    for (int first = begin; first < end; first += kLanes) {
        alignas(64) float lane[10][kLanes], shown[kLanes];
        for (int l = 0; l < kLanes; ++l) {
            for (int k = 0; k < kGeometryGradients; ++k) lane[k][l] = 0.0f;
            shown[l] = 0.0f;
            const int64_t i = first + l;
            if (i >= end) continue;
            const Record& r = records[i];
            float* colours = out.colours + i * channels;
            clear(colours, channels);
            const float* slot = slots + int64_t(r.first_slot) * stride;
            for (int tiles = r.tiles(); tiles > 0; --tiles, slot += stride) {
                for (int k = 0; k < kGeometryGradients; ++k) lane[k][l] += slot[k];
                for (int k = 0; k < channels; ++k) colours[k] += slot[kGeometryGradients + k];
            }
            shown[l] = r.tiles() ? 1.0f : 0.0f;
            out.opacities[i] = r.tiles() ? lane[0][l] / splats.opacities[i] : 0.0f;
        }
        const Splat<F> s = gather(splats, first, end);
        const Moments<F> m{load(lane[0]), load(lane[1]), load(lane[2]), load(lane[3]),
                           load(lane[4]), load(lane[5]), load(lane[6])};
        const Projection<F> projected = project_splat(cam, s);
        const SplatGradient<F> g = project_splat_backward(cam, s, projected, m);
        const M drawn = at_least(load(shown), F(0.5f));  // hidden splats may have no finite derivative
        pose_gradient(s, projected, g, part);
        for (int k = 0; k < kPose; ++k) pose[k] += zero_unless(drawn, part[k]);
        const F fields[10] = {g.mean.x, g.mean.y, g.mean.z, g.w, g.x, g.y, g.z, g.scale[0], g.scale[1], g.scale[2]};
        for (int k = 0; k < 10; ++k) store(lane[k], fields[k]);
        for (int l = 0; l < kLanes && first + l < end; ++l) {
            const int64_t i = first + l;
            const bool shows = shown[l] > 0;
            for (int k = 0; k < 3; ++k) out.means[3 * i + k] = shows ? lane[k][l] : 0.0f;
            for (int k = 0; k < 4; ++k) out.quats[4 * i + k] = shows ? lane[3 + k][l] : 0.0f;
            for (int k = 0; k < 3; ++k) out.scales[3 * i + k] = shows ? lane[7 + k][l] : 0.0f;
        }
    }
    for (int k = 0; k < kPose; ++k) out.pose[begin / kSplatsPerTask * kPose + k] = sum(pose[k]);
}

}  // namespace

extern const rasterize::Kernels rasterize_kernels;
const rasterize::Kernels rasterize_kernels = {project, draw, draw_backward, project_backward};

}  // namespace AV_ISA
}  // namespace avatar
