#pragma once
// The files of one system: where the map is, where runs are kept, and how both are read.

#include <string>
#include <vector>

#include "base/result.h"
#include "model/experiment.h"
#include "model/system_map.h"
#include "model/vocabulary.h"
#include "store/store.h"

namespace squall::engine {

// Every fault kind and probe kind of this build.
const model::Vocabulary& vocabulary();

// A file that was read and understood, with its text for the record.
struct LoadedMap {
  std::string path;
  std::string text;
  model::SystemMap map;
  std::vector<model::Diagnostic> warnings;
};
struct LoadedExperiment {
  std::string path;
  std::string text;
  model::Experiment experiment;
  std::vector<model::Diagnostic> warnings;
};

// The map that belongs to `near` (an experiment file or a folder): squall.yaml there or in the
// nearest folder above. kNotFound with the hint to run `squall init`.
base::Result<std::string> find_map(const std::string& near);

// kBadFile with every mistake rendered; kNotFound; kExhausted when larger than a map may be.
base::Result<LoadedMap> load_map(const std::string& path, const std::string& environment);
base::Result<LoadedExperiment> load_experiment(const std::string& path,
                                               const model::SystemMap& map);

// Folder `.squall` beside the map.
class Workspace {
 public:
  // Does not create anything.
  explicit Workspace(std::string map_directory);
  base::Status create() const;
  const std::string& directory() const { return directory_; }
  std::string runs_directory() const;
  std::string record_path(std::string_view run) const;
  base::Result<store::Store> open_store() const;  // creates the folder when missing

 private:
  std::string directory_;
};

}  // namespace squall::engine
