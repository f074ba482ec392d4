// Bind and blend over vectors of splats; compiled once for each instruction set, see ../simd.h.
//
// The basis [n 13 k] is most of the memory that moves (52 MB for 50,000 splats and k = 20), so each splat's 13 k
// numbers are read once, in order, and its sums stay in registers and on the stack.

#include "../simd.h"
#include "binding.h"
#include "binding_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using namespace binding;

constexpr int kVectorsAtOnce = 4;

struct Counter {
    alignas(64) float lane[kLanes];
    constexpr Counter() : lane() {
        for (int l = 0; l < kLanes; ++l) lane[l] = float(l);
    }
};
constexpr Counter kCounter;

inline F lanes_below(int count, F value) { return zero_unless(less(load(kCounter.lane), F(float(count))), value); }

// The last vector of a row may reach into the next rows, but not behind the tensor's end.
inline F inner(const float* p, int count) { return lanes_below(count, load(p)); }

inline F outer(const float* p, int count) {
    if (count >= kLanes) return load(p);
    alignas(64) float lane[kLanes];
    for (int l = 0; l < kLanes; ++l) lane[l] = l < count ? p[l] : 0.0f;
    return load(lane);
}

inline void store_some(float* p, F value, int count) {
    if (count >= kLanes) return store(p, value);
    alignas(64) float lane[kLanes];
    store(lane, value);
    for (int l = 0; l < kLanes; ++l)
        if (l < count) p[l] = lane[l];
}

// out[c] = the sum of the lanes of rows[c], for 16 rows: pairs are added while they are transposed, a quarter of the
// instructions of 16 sums one after the other.
constexpr int kRowsAtOnce = 16;

#if defined(__AVX512F__)
inline void sums(const F* rows, float* out) {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(rows[i].v, rows[i + 8].v, 0x44),
                             _mm512_shuffle_f32x4(rows[i].v, rows[i + 8].v, 0xee));
    for (int i = 0; i < 4; ++i)
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    for (int i = 0; i < 2; ++i)
        c[i] = _mm512_add_ps(_mm512_unpacklo_ps(b[i], b[i + 2]), _mm512_unpackhi_ps(b[i], b[i + 2]));
    const __m512 d = _mm512_add_ps(_mm512_unpacklo_ps(c[0], c[1]), _mm512_unpackhi_ps(c[0], c[1]));
    _mm512_storeu_ps(out, _mm512_shuffle_f32x4(d, d, 0xd8));
}
#elif defined(__AVX2__)
inline void sums(const F* rows, float* out) {
    for (int half = 0; half < kRowsAtOnce; half += 8) {
        __m256 quarter[2];
        for (int i = 0; i < 2; ++i) {
            const F* r = rows + half + 4 * i;
            quarter[i] = _mm256_hadd_ps(_mm256_hadd_ps(r[0].v, r[1].v), _mm256_hadd_ps(r[2].v, r[3].v));
        }
        _mm256_storeu_ps(out + half, _mm256_add_ps(_mm256_permute2f128_ps(quarter[0], quarter[1], 0x20),
                                                   _mm256_permute2f128_ps(quarter[0], quarter[1], 0x31)));
    }
}
#else
inline void sums(const F* rows, float* out) {
    for (int c = 0; c < kRowsAtOnce; ++c) out[c] = sum(rows[c]);
}
#endif

template <int kValue>
struct Constant {
    static constexpr int value = kValue;
};

// Calls body with the number of vectors that hold `columns` as a constant.
template <class Body>
inline void with_vectors(int columns, Body body) {
    if (columns <= kLanes) return body(Constant<1>());
    if (columns <= 2 * kLanes) return body(Constant<2>());
    if (columns <= 3 * kLanes) return body(Constant<3>());
    return body(Constant<4>());
}

// A row of the basis is a few pages of reading away from the next lot of splats, too far for the processor to guess.
constexpr int kAhead = 6;  // splats

inline void prefetch(const Splats& s, int64_t i, int64_t row) {
    if (i + kAhead >= s.count) return;
    const float* at = s.basis + (i + kAhead) * row;
    for (int64_t k = 0; k < row; k += 16) __builtin_prefetch(at + k);
}

// total[c] += basis[c][...] * weights, where the last vector of a row is read by `last`.
template <int kVectors, class Last>
inline void add_products(const float* basis, const F* weights, int terms, F* total, Last last) {
    for (int c = 0; c < kNumbers; ++c, basis += terms) {
        F sum = total[c];
        for (int v = 0; v + 1 < kVectors; ++v) sum = fma(load(basis + v * kLanes), weights[v], sum);
        total[c] = fma(last(basis + (kVectors - 1) * kLanes), weights[kVectors - 1], sum);
    }
}

// The 13 numbers that motion adds to splat i; zeros if it stays at rest. out has room for kRowsAtOnce.
void blend(const Splats& s, int64_t i, float* out) {
    for (int c = 0; c < kNumbers; ++c) out[c] = 0.0f;
    if (s.live && !s.live[i]) return;
    const int64_t row = int64_t(kNumbers) * s.terms;
    F total[kRowsAtOnce];
    for (F& t : total) t = F(0.0f);
    if (s.basis) prefetch(s, i, row);
    for (int from = 0; s.basis && from < s.terms; from += kVectorsAtOnce * kLanes) {
        const float* basis = s.basis + i * row + from;
        const int64_t readable = (s.count - i) * row - from;
        const int left = s.terms - from;
        with_vectors(left, [&](auto n) {
            constexpr int kVectors = decltype(n)::value;
            F weights[kVectors];
            for (int v = 0; v < kVectors; ++v) weights[v] = outer(s.weights + from + v * kLanes, left - v * kLanes);
            const int last = left - (kVectors - 1) * kLanes;
            if (row + kLanes <= readable)
                add_products<kVectors>(basis, weights, s.terms, total, [&](const float* p) { return inner(p, last); });
            else
                add_products<kVectors>(basis, weights, s.terms, total, [&](const float* p) { return outer(p, last); });
        });
    }
    sums(total, out);
    for (int c = 0; c < kNumbers; ++c)
        out[c] = channel_unit(c) * (out[c] + (s.extra ? s.extra[kNumbers * i + c] : 0.0f));
}

// For rows of floats: lane l of vector k is rows[width * (first + l) + k]; lanes past the end repeat the last row.
template <int kWidth>
struct Columns {
    alignas(64) float lane[kWidth][kLanes];
    void gather(const float* rows, int first, int end) {
        for (int l = 0; l < kLanes; ++l) {
            const float* row = rows + int64_t(kWidth) * (first + l < end ? first + l : end - 1);
            for (int k = 0; k < kWidth; ++k) lane[k][l] = row[k];
        }
    }
    void scatter(float* rows, int first, int end) const {
        for (int l = 0; l < kLanes && first + l < end; ++l)
            for (int k = 0; k < kWidth; ++k) rows[int64_t(kWidth) * (first + l) + k] = lane[k][l];
    }
    F operator[](int k) const { return load(lane[k]); }
    void set(int k, F value) { store(lane[k], value); }
    Vec3<F> vec3(int k = 0) const { return {load(lane[k]), load(lane[k + 1]), load(lane[k + 2])}; }
    Quat<F> quat(int k = 0) const { return {load(lane[k]), load(lane[k + 1]), load(lane[k + 2]), load(lane[k + 3])}; }
    void set(int k, Vec3<F> v) { store(lane[k], v.x), store(lane[k + 1], v.y), store(lane[k + 2], v.z); }
    void set(int k, Quat<F> q) { store(lane[k], q.w), set(k + 1, Vec3<F>{q.x, q.y, q.z}); }
};

Vec3<F> gather3(const float* rows, int first, int end) {
    Columns<3> c;
    c.gather(rows, first, end);
    return c.vec3();
}

Quat<F> gather4(const float* rows, int first, int end) {
    Columns<4> c;
    c.gather(rows, first, end);
    return c.quat();
}

F gather1(const float* values, int first, int end) {
    Columns<1> c;
    c.gather(values, first, end);
    return c[0];
}

void scatter(Vec3<F> v, float* rows, int first, int end) {
    Columns<3> c;
    c.set(0, v);
    c.scatter(rows, first, end);
}

void scatter(Quat<F> q, float* rows, int first, int end) {
    Columns<4> c;
    c.set(0, q);
    c.scatter(rows, first, end);
}

void scatter(F v, float* rows, int first, int end) {
    Columns<1> c;
    c.set(0, v);
    c.scatter(rows, first, end);
}

struct Corners {
    Columns<10> at;  // three corners and the size at rest
    int damaged = 0;

    void gather(const Surface& s, int first, int end) {
        for (int l = 0; l < kLanes; ++l) {
            const int64_t f = first + l < end ? first + l : end - 1;
            for (int k = 0; k < 3; ++k) {
                const int64_t v = s.faces[3 * f + k];
                const bool exists = v >= 0 && v < s.vertex_count;
                damaged += !exists;
                for (int d = 0; d < 3; ++d) at.lane[3 * k + d][l] = exists ? s.vertices[3 * v + d] : __builtin_nanf("");
            }
            at.lane[9][l] = s.rest_size[f];
        }
    }
};

int frames(const Surface& surface, float* records, int begin, int end) {
    Corners corners;
    for (int first = begin; first < end; first += kLanes) {
        corners.gather(surface, first, end);
        const auto& at = corners.at;
        const Frame<F> f = frame_of(at.vec3(0), at.vec3(3), at.vec3(6), at[9]);
        Columns<kRecordFloats> record;
        for (int k = 0; k < 9; ++k) record.set(k, at[k]);
        record.set(9, f.turn);
        alignas(64) float growth[kLanes];
        store(growth, f.growth);
        for (int l = 0; l < kLanes; ++l) growth[l] = ::logf(growth[l]);
        record.set(13, load(growth));
        record.set(14, F(kOffsetUnit) * f.growth);
        record.set(15, F(0.0f));
        record.scatter(records, first, end);
    }
    return corners.damaged;
}

// The records of the splats' triangles.
int gather_records(const Splats& s, const float* records, int faces, int first, int end, Columns<kRecordFloats>& out) {
    int damaged = 0;
    for (int l = 0; l < kLanes; ++l) {
        const int64_t triangle = s.triangle[first + l < end ? first + l : end - 1];
        const bool exists = triangle >= 0 && triangle < faces;
        damaged += !exists;
        for (int k = 0; k < kRecordFloats; ++k)
            out.lane[k][l] = exists ? records[kRecordFloats * triangle + k] : __builtin_nanf("");
    }
    return damaged;
}

Seat<F> seat_of(const Columns<kRecordFloats>& r) { return {r.quat(9), r[14], r[13]}; }

Rest<F> rest_of(const Splats& s, int first, int end) {
    return {gather3(s.offset, first, end), gather4(s.turn, first, end), gather3(s.log_scale, first, end),
            gather1(s.opacity, first, end), gather3(s.colour, first, end)};
}

int bind(const Surface& surface, const Splats& s, const float* records, const Drawn& out, float* state, int begin,
         int end) {
    int damaged = 0;
    for (int first = begin; first < end; first += kLanes) {
        Columns<kRecordFloats> record;
        damaged += gather_records(s, records, surface.face_count, first, end, record);
        Columns<kNumbers> sway;
        for (int l = 0; l < kLanes; ++l) {
            alignas(64) float numbers[kRowsAtOnce];
            if (first + l < end) blend(s, first + l, numbers);
            for (int c = 0; c < kNumbers; ++c) sway.lane[c][l] = first + l < end ? numbers[c] : 0.0f;
        }
        const Rest<F> rest = rest_of(s, first, end);
        const Sway<F> added{sway.vec3(0), sway.vec3(3), sway.vec3(6), sway[9], sway.vec3(10)};
        const Bound<F> bound = bind_splat(seat_of(record), rest, added, s.activate);
        const Vec3<F> bary = gather3(s.bary, first, end);
        const Vec3<F> base =
            scaled(bary.x, record.vec3(0)) + scaled(bary.y, record.vec3(3)) + scaled(bary.z, record.vec3(6));
        scatter(base + bound.mean, out.means, first, end);
        scatter(bound.quat, out.quats, first, end);
        scatter(bound.scale, out.scales, first, end);
        scatter(bound.opacity, out.opacities, first, end);
        scatter(bound.colour, out.colours, first, end);
        if (!state) continue;
        const Vec3<F> offset = rest.offset + added.offset;
        const F kept[kStateFloats] = {offset.x, offset.y, offset.z, added.turn.x, added.turn.y, added.turn.z};
        for (int k = 0; k < kStateFloats; ++k) store_some(state + int64_t(k) * s.count + first, kept[k], end - first);
    }
    return damaged;
}

// total += sum over c of row[c] * basis[c][...].
template <int kVectors, class Last>
inline void add_rows(const float* basis, const float* row, int terms, F* total, Last last) {
    for (int c = 0; c < kNumbers; ++c, basis += terms) {
        const F g(row[c]);
        for (int v = 0; v + 1 < kVectors; ++v) total[v] = fma(load(basis + v * kLanes), g, total[v]);
        total[kVectors - 1] = fma(last(basis + (kVectors - 1) * kLanes), g, total[kVectors - 1]);
    }
}

// Gradients of the basis and of its weights from one splat's row of 13.
void blend_backward(const Splats& s, int64_t i, const float* row, float* basis, float* weights) {
    float largest = 0.0f;
    for (int c = 0; c < kNumbers; ++c) largest += __builtin_fabsf(row[c]);
    const int64_t width = int64_t(kNumbers) * s.terms;
    if (basis)
        for (int c = 0; c < kNumbers; ++c)
            for (int k = 0; k < s.terms; ++k) basis[i * width + c * s.terms + k] = row[c] * s.weights[k];
    if (!weights || largest == 0.0f) return;
    prefetch(s, i, width);
    for (int from = 0; from < s.terms; from += kVectorsAtOnce * kLanes) {
        const float* at = s.basis + i * width + from;
        const int64_t readable = (s.count - i) * width - from;
        with_vectors(s.terms - from, [&](auto n) {
            constexpr int kVectors = decltype(n)::value;
            F total[kVectors];
            for (int v = 0; v < kVectors; ++v) total[v] = load(weights + from + v * kLanes);
            const int last = s.terms - from - (kVectors - 1) * kLanes;
            if (width + kLanes <= readable)
                add_rows<kVectors>(at, row, s.terms, total, [&](const float* p) { return inner(p, last); });
            else
                add_rows<kVectors>(at, row, s.terms, total, [&](const float* p) { return outer(p, last); });
            for (int v = 0; v < kVectors; ++v) store(weights + from + v * kLanes, total[v]);
        });
    }
}

void bind_backward(const Splats& s, const float* records, const float* state, const Drawn& drawn, const Drawn& upstream,
                   const Gradients& to, float* share, float* weights, int begin, int end) {
    for (int first = begin; first < end; first += kLanes) {
        Columns<kRecordFloats> record;
        gather_records(s, records, 0x7fffffff, first, end, record);
        Columns<kStateFloats> kept;
        for (int k = 0; k < kStateFloats; ++k)
            for (int l = 0; l < kLanes; ++l)
                kept.lane[k][l] = state[int64_t(k) * s.count + (first + l < end ? first + l : end - 1)];
        Bound<F> out, g;
        out.scale = gather3(drawn.scales, first, end), out.opacity = gather1(drawn.opacities, first, end);
        out.colour = gather3(drawn.colours, first, end);
        g.mean = gather3(upstream.means, first, end), g.quat = gather4(upstream.quats, first, end);
        g.scale = gather3(upstream.scales, first, end), g.opacity = gather1(upstream.opacities, first, end);
        g.colour = gather3(upstream.colours, first, end);
        const Quat<F> rest_turn = gather4(s.turn, first, end);
        const SplatBack<F> b =
            bind_splat_backward(seat_of(record), kept.vec3(0), kept.vec3(3), rest_turn, out, g, s.activate);
        alignas(64) float live[kLanes];
        for (int l = 0; l < kLanes; ++l)
            live[l] = !s.live || s.live[first + l < end ? first + l : end - 1] ? 1.0f : 0.0f;
        const F learns = load(live);
        const Quat<F>& turn = b.rest.turn;
        scatter(scaled(learns, b.rest.offset), to.offset, first, end);
        scatter(Quat<F>{learns * turn.w, learns * turn.x, learns * turn.y, learns * turn.z}, to.turn, first, end);
        scatter(scaled(learns, b.rest.log_scale), to.log_scale, first, end);
        scatter(b.rest.opacity, to.opacity, first, end);
        scatter(scaled(learns, b.rest.colour), to.colour, first, end);
        Columns<kShareFloats> handed;
        handed.set(0, b.seat_turn), handed.set(3, b.log_growth);
        handed.scatter(share, first, end);

        Columns<kNumbers> numbers;
        numbers.set(0, b.sway.offset), numbers.set(3, b.sway.turn), numbers.set(6, b.sway.log_scale);
        numbers.set(9, b.sway.opacity), numbers.set(10, b.sway.colour);
        for (int c = 0; c < kNumbers; ++c) numbers.set(c, learns * F(channel_unit(c)) * numbers[c]);
        numbers.scatter(to.extra, first, end);
        if (!to.basis && !weights) continue;
        for (int i = first; i < end && i < first + kLanes; ++i)
            blend_backward(s, i, to.extra + int64_t(kNumbers) * i, to.basis, weights);
    }
}

// sums [f 16]: 9 of the corners, 3 of the turn, 1 of the log of the growth; the first nine become the corners' all.
void frames_backward(const Surface& surface, float* sums, int begin, int end) {
    for (int first = begin; first < end; first += kLanes) {
        Corners corners;
        corners.gather(surface, first, end);
        const auto& at = corners.at;
        const Vec3<F> a = at.vec3(0), b = at.vec3(3), c = at.vec3(6);
        Columns<kRecordFloats> total;
        total.gather(sums, first, end);
        Vec3<F> corner[3];
        frame_backward(frame_of(a, b, c, at[9]), a, b, c, at[9], total.vec3(9), total[12], corner);
        for (int k = 0; k < 3; ++k) total.set(3 * k, total.vec3(3 * k) + corner[k]);
        total.scatter(sums, first, end);
    }
}

}  // namespace

extern const binding::Kernels binding_kernels;
const binding::Kernels binding_kernels = {frames, bind, bind_backward, frames_backward};

}  // namespace AV_ISA
}  // namespace avatar
