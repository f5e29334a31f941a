# The PyPI wheels of ROS 2 name include directories of the image they were built in.
# Passed to colcon as CMAKE_PROJECT_INCLUDE; takes those directories out of every imported target.
function(openpi_flash_drop_wheel_paths)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(includes MATCHES "/opt/python/cp")
      list(FILTER includes EXCLUDE REGEX "^/opt/python/cp")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includes}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL openpi_flash_drop_wheel_paths)
