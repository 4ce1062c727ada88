#pragma once
// The way from a probe to the recorder, with a gate: a probe whose thread hangs in a call that
// cannot be interrupted is abandoned at the end of the run, and what it says later goes nowhere.

#include <mutex>
#include <vector>

#include "evidence/recorder.h"
#include "model/prediction_language.h"

namespace squall::observe {

// Thread-safe.
class SampleSink {
 public:
  explicit SampleSink(evidence::Recorder& recorder) : recorder_(&recorder) {}
  base::Result<evidence::SeriesId> declare(const evidence::SeriesDeclaration& declaration);
  template <typename Sample>
  void add(evidence::SeriesId series, const Sample& sample) {
    const std::lock_guard lock(mutex_);
    if (recorder_ != nullptr) recorder_->add(series, sample);
  }
  void add_dropped(evidence::SeriesId series, base::Instant intended);
  void add_write(evidence::SeriesId series, const evidence::WriteRecord& write);
  void add_read_back(evidence::SeriesId series, const evidence::ReadBack& read_back);
  void add(const evidence::Event& event);
  void close();

 private:
  std::mutex mutex_;
  evidence::Recorder* recorder_;
};

// The request series of a probe: the whole and the parts that predictions ask for. A sample goes to
// every part whose condition it meets.
class RequestSeries {
 public:
  RequestSeries(SampleSink& sink, std::vector<model::Slice> slices);
  base::Status declare(const std::string& probe);
  bool needs_header() const { return needs_header_; }
  bool needs_json() const { return needs_json_; }
  bool sliced() const { return slices_.size() > 1; }
  evidence::SeriesId whole() const { return ids_.front(); }
  // `fields` may lack status, latency, success and outcome: they are filled in from `sample`.
  void add(const evidence::RequestSample& sample, model::RequestFields fields = {});
  // A request that was never sent belongs to every part: nobody knows what it would have become.
  void add_dropped(base::Instant intended);

 private:
  SampleSink& sink_;
  std::vector<model::Slice> slices_;
  std::vector<evidence::SeriesId> ids_;
  bool needs_header_ = false;
  bool needs_json_ = false;
};

// Whether `condition` reads the field `name` ("header", "json") of a request.
bool reads_field(const model::Condition& condition, std::string_view name);

}  // namespace squall::observe
